//! G.711 µ-law and A-law (ITU-T G.711), to and from 24 kHz PCM.

/// Decodes 8 kHz µ-law to 24 kHz PCM.
pub fn decode_ulaw(_bytes: &[u8]) -> Vec<i16> {
    todo!()
}
