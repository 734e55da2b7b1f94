//! provider (to be written).
