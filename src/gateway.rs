//! gateway (to be written).
