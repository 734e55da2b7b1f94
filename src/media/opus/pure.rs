//! The pure Rust library.

use opus_pure::{Application, OpusDecoder, OpusEncoder};

use crate::media::opus::{BITRATE, COMPLEXITY, CodecError, Decode, EXPECTED_LOSS, Encode, refused};
use crate::media::{FRAME_SAMPLES, SAMPLE_RATE};

pub(crate) struct Encoder(OpusEncoder);

impl Encoder {
    pub(crate) fn new() -> Result<Self, CodecError> {
        let mut encoder =
            OpusEncoder::new(SAMPLE_RATE as i32, 1, Application::Voip).map_err(refused)?;
        encoder.bitrate_bps = BITRATE as i32;
        encoder.complexity = COMPLEXITY.into();
        encoder.use_inband_fec = true;
        encoder.packet_loss_perc = EXPECTED_LOSS.into();
        Ok(Self(encoder))
    }
}

impl Encode for Encoder {
    fn encode(
        &mut self,
        pcm: &[i16; FRAME_SAMPLES],
        packet: &mut [u8],
    ) -> Result<usize, CodecError> {
        self.0
            .encode_s16(pcm, FRAME_SAMPLES, packet)
            .map_err(refused)
    }

    fn reset(&mut self) {
        self.0
            .reset_state()
            .expect("the encoder was made with these settings");
    }
}

pub(crate) struct Decoder(OpusDecoder);

impl Decoder {
    pub(crate) fn new() -> Result<Self, CodecError> {
        OpusDecoder::new(SAMPLE_RATE as i32, 1)
            .map(Self)
            .map_err(refused)
    }
}

impl Decode for Decoder {
    fn decode(&mut self, packet: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        self.0.decode_s16(packet, pcm.len(), pcm).map_err(refused)
    }

    fn recover(&mut self, next: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        self.0.decode_fec_s16(next, pcm.len(), pcm).map_err(refused)
    }

    fn conceal(&mut self, pcm: &mut [i16]) -> Result<usize, CodecError> {
        self.0.decode_s16(&[], pcm.len(), pcm).map_err(refused)
    }

    fn reset(&mut self) {
        self.0
            .reset_state()
            .expect("the decoder was made with these settings");
    }
}
