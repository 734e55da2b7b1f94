//! Orders packets and decides when each is due.
