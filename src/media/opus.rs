//! Opus at 24 kHz mono in 20 ms frames (RFC 6716), behind a choice of two libraries.

/// A packet or a frame that the codec refuses.
#[derive(Debug, thiserror::Error)]
#[error("opus: {0}")]
pub struct CodecError(pub String);

/// Encodes 20 ms frames for the device.
pub struct Encoder(());

impl Encoder {
    pub fn new() -> Result<Self, CodecError> {
        todo!()
    }

    /// Encodes exactly [`crate::media::FRAME_SAMPLES`] samples.
    pub fn encode(&mut self, _pcm: &[i16]) -> Result<Vec<u8>, CodecError> {
        todo!()
    }

    /// Forgets the past, so that what follows a cut does not start with its echo.
    pub fn reset(&mut self) {}
}

/// Decodes packets of any duration to 24 kHz mono.
pub struct Decoder(());

impl Decoder {
    pub fn new() -> Result<Self, CodecError> {
        todo!()
    }

    pub fn decode(&mut self, _packet: &[u8]) -> Result<Vec<i16>, CodecError> {
        todo!()
    }
}
