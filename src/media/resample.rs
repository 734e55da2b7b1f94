//! Changes the sample rate of a stream.
