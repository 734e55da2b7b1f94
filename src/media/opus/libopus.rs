//! libopus.

use opus::{Application, Bitrate, Channels};

use crate::media::opus::{BITRATE, COMPLEXITY, CodecError, Decode, EXPECTED_LOSS, Encode, refused};
use crate::media::{FRAME_SAMPLES, SAMPLE_RATE};

pub(crate) struct Encoder(opus::Encoder);

impl Encoder {
    pub(crate) fn new() -> Result<Self, CodecError> {
        let mut encoder =
            opus::Encoder::new(SAMPLE_RATE, Channels::Mono, Application::Voip).map_err(refused)?;
        encoder
            .set_bitrate(Bitrate::Bits(BITRATE as i32))
            .and_then(|()| encoder.set_complexity(COMPLEXITY.into()))
            .and_then(|()| encoder.set_inband_fec(true))
            .and_then(|()| encoder.set_packet_loss_perc(EXPECTED_LOSS.into()))
            .map_err(refused)?;
        Ok(Self(encoder))
    }
}

impl Encode for Encoder {
    fn encode(
        &mut self,
        pcm: &[i16; FRAME_SAMPLES],
        packet: &mut [u8],
    ) -> Result<usize, CodecError> {
        self.0.encode(pcm, packet).map_err(refused)
    }

    fn reset(&mut self) {
        self.0
            .reset_state()
            .expect("resetting has no way to fail on a valid encoder");
    }
}

pub(crate) struct Decoder(opus::Decoder);

impl Decoder {
    pub(crate) fn new() -> Result<Self, CodecError> {
        opus::Decoder::new(SAMPLE_RATE, Channels::Mono)
            .map(Self)
            .map_err(refused)
    }
}

impl Decode for Decoder {
    fn decode(&mut self, packet: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        self.0.decode(packet, pcm, false).map_err(refused)
    }

    fn recover(&mut self, next: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        self.0.decode(next, pcm, true).map_err(refused)
    }

    fn conceal(&mut self, pcm: &mut [i16]) -> Result<usize, CodecError> {
        self.0.decode(&[], pcm, false).map_err(refused)
    }

    fn reset(&mut self) {
        self.0
            .reset_state()
            .expect("resetting has no way to fail on a valid decoder");
    }
}
