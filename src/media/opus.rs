//! Opus at 24 kHz mono in 20 ms frames (RFC 6716), behind a choice of two libraries.
//!
//! The pure Rust one serves by default, libopus with the feature `libopus`; packets of one are
//! understood by the other.
//!
//! **Invariant:** no bytes panic the decoder: the packet's structure (RFC 6716 section 3) is
//! checked before either library sees it.

#[cfg(feature = "libopus")]
mod libopus;
mod pure;

use opus_pure::packet;

use crate::media::{FRAME_SAMPLES, SAMPLE_RATE};

/// Bits per second that the encoder aims at.
pub const BITRATE: u32 = 32_000;

/// The loss, in percent, that the encoder arms its packets against with in-band FEC.
pub const EXPECTED_LOSS: u8 = 10;

/// How much the encoder may compute, 0 to 10.
const COMPLEXITY: u8 = 5;

/// The longest packet that the encoder may make; RFC 6716 section 3.2.1 bounds a frame so.
const MAX_PACKET_BYTES: usize = 1275;

/// The shortest time that Opus can code or conceal, 2.5 ms, in samples.
const GRAIN: usize = SAMPLE_RATE as usize / 400;

/// A packet or a frame that the codec refuses.
#[derive(Debug, thiserror::Error)]
#[error("opus: {0}")]
pub struct CodecError(pub String);

/// Encodes 20 ms frames for the device.
pub struct Encoder {
    library: Box<dyn Encode>,
}

impl Encoder {
    pub fn new() -> Result<Self, CodecError> {
        #[cfg(not(feature = "libopus"))]
        let library = Box::new(pure::Encoder::new()?);
        #[cfg(feature = "libopus")]
        let library = Box::new(libopus::Encoder::new()?);
        Ok(Self { library })
    }

    /// Encodes exactly [`FRAME_SAMPLES`] samples.
    pub fn encode(&mut self, pcm: &[i16]) -> Result<Vec<u8>, CodecError> {
        let pcm = pcm.try_into().map_err(|_| {
            CodecError(format!(
                "a frame has {FRAME_SAMPLES} samples, not {}",
                pcm.len()
            ))
        })?;
        let mut packet = vec![0; MAX_PACKET_BYTES];
        let length = self.library.encode(pcm, &mut packet)?;
        packet.truncate(length);
        Ok(packet)
    }

    /// Forgets the past, so that what follows a cut does not start with its echo.
    pub fn reset(&mut self) {
        self.library.reset();
    }
}

/// Decodes packets of any duration, mono or stereo, to 24 kHz mono.
pub struct Decoder {
    library: Box<dyn Decode>,
}

impl Decoder {
    pub fn new() -> Result<Self, CodecError> {
        #[cfg(not(feature = "libopus"))]
        let library = Box::new(pure::Decoder::new()?);
        #[cfg(feature = "libopus")]
        let library = Box::new(libopus::Decoder::new()?);
        Ok(Self { library })
    }

    /// Decodes the packet that follows the last one decoded or concealed.
    pub fn decode(&mut self, packet: &[u8]) -> Result<Vec<i16>, CodecError> {
        let mut pcm = vec![0; samples(packet)?];
        let decoded = self.library.decode(packet, &mut pcm)?;
        pcm.truncate(decoded);
        Ok(pcm)
    }

    /// Rebuilds the last `samples` samples before `next`, whose predecessor is lost: from the
    /// copy in `next` (in-band FEC) as far as there is one, the rest by concealment.
    ///
    /// `next` itself is still to be decoded.
    pub fn recover(&mut self, next: &[u8], samples: usize) -> Result<Vec<i16>, CodecError> {
        self::samples(next)?;
        let copied = frame_samples(next)?;
        // The library rebuilds whole frames only; one that is partly known is concealed.
        if samples < copied {
            return Ok(self.conceal(samples));
        }
        let mut pcm = self.conceal(samples - copied);
        let mut copy = vec![0; copied];
        let recovered = self.library.recover(next, &mut copy)?;
        pcm.extend_from_slice(&copy[..recovered]);
        Ok(pcm)
    }

    /// Makes up `samples` samples that sound like what came before.
    pub fn conceal(&mut self, samples: usize) -> Vec<i16> {
        let mut pcm = vec![0; samples.next_multiple_of(GRAIN)];
        for piece in pcm.chunks_mut(FRAME_SAMPLES) {
            if self.library.conceal(piece).is_err() {
                piece.fill(0);
            }
        }
        pcm.truncate(samples);
        pcm
    }

    /// Forgets the past, as before a stream that has nothing to do with the last.
    pub fn reset(&mut self) {
        self.library.reset();
    }
}

/// Returns how many samples a packet decodes to at [`SAMPLE_RATE`].
pub fn samples(packet: &[u8]) -> Result<usize, CodecError> {
    packet::samples(packet, SAMPLE_RATE as i32).map_err(refused)
}

/// Returns how many samples each frame within a packet decodes to.
pub fn frame_samples(packet: &[u8]) -> Result<usize, CodecError> {
    packet::samples_per_frame(packet, SAMPLE_RATE as i32).map_err(refused)
}

/// What an encoding library does.
trait Encode: Send {
    /// Returns the packet's length.
    fn encode(
        &mut self,
        pcm: &[i16; FRAME_SAMPLES],
        packet: &mut [u8],
    ) -> Result<usize, CodecError>;
    fn reset(&mut self);
}

/// What a decoding library does. Each returns how many samples it made.
trait Decode: Send {
    fn decode(&mut self, packet: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError>;
    fn recover(&mut self, next: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError>;
    fn conceal(&mut self, pcm: &mut [i16]) -> Result<usize, CodecError>;
    fn reset(&mut self);
}

fn refused(error: impl std::fmt::Display) -> CodecError {
    CodecError(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::fixtures::{energy, human_speech, snr, voice};

    #[test]
    fn speech_survives_the_way_through_the_codec() {
        let speech = speech();
        let packets = encoded(&speech);
        let bytes: usize = packets.iter().map(Vec::len).sum();
        let bits_per_second = bytes * 8 * 50 / packets.len();
        assert!(
            (20_000..36_000).contains(&bits_per_second),
            "{bits_per_second}"
        );

        let mut decoder = Decoder::new().unwrap();
        let heard: Vec<i16> = packets
            .iter()
            .flat_map(|packet| decoder.decode(packet).unwrap())
            .collect();
        assert_eq!(heard.len(), packets.len() * FRAME_SAMPLES);
        let loudness = energy(&heard) / energy(&speech);
        assert!((0.7..1.3).contains(&loudness), "{loudness}");
        let best = (0..400)
            .map(|delay| {
                snr(
                    &speech[..speech.len() - 400],
                    &heard[delay..][..speech.len() - 400],
                )
            })
            .fold(f64::MIN, f64::max);
        assert!(best > 4.0, "{best:.1} dB");
    }

    #[test]
    fn a_lost_packet_is_rebuilt_better_from_its_successor_than_concealed() {
        let packets = encoded(&speech());
        let lossless = decoded(&packets, |_| false, Repair::Conceal);
        let lost = |n: usize| n % 20 == 13;
        let concealed = snr(&lossless, &decoded(&packets, lost, Repair::Conceal));
        let recovered = snr(&lossless, &decoded(&packets, lost, Repair::Recover));
        assert!(
            recovered > concealed + 3.0,
            "{recovered:.1} dB, {concealed:.1} dB"
        );
    }

    #[test]
    fn concealment_and_recovery_last_as_long_as_asked() {
        let packets = encoded(&speech());
        let mut decoder = Decoder::new().unwrap();
        decoder.decode(&packets[50]).unwrap();
        for samples in [
            0, 1, 59, 60, 61, 240, 479, 480, 481, 960, 1_440, 2_880, 24_000,
        ] {
            assert_eq!(decoder.conceal(samples).len(), samples);
            assert_eq!(
                decoder.recover(&packets[52], samples).unwrap().len(),
                samples
            );
        }
    }

    #[test]
    fn packets_of_every_duration_and_stereo_decode_to_mono() {
        let speech = speech();
        for channels in [1, 2] {
            for samples in [60, 120, 240, 480, 960, 1_440, 1_920, 2_400, 2_880] {
                let mut encoder = opus_pure::OpusEncoder::new(
                    SAMPLE_RATE as i32,
                    channels,
                    opus_pure::Application::Audio,
                )
                .unwrap();
                let mut decoder = Decoder::new().unwrap();
                let mut heard = Vec::new();
                for piece in speech.chunks_exact(samples) {
                    let pcm: Vec<i16> = piece
                        .iter()
                        .flat_map(|s| std::iter::repeat_n(*s, channels))
                        .collect();
                    let mut packet = vec![0; opus_pure::MAX_PACKET_BYTES];
                    let length = encoder.encode_s16(&pcm, samples, &mut packet).unwrap();
                    packet.truncate(length);
                    let pcm = decoder.decode(&packet).unwrap();
                    assert_eq!(pcm.len(), samples);
                    heard.extend(pcm);
                }
                let loudness = energy(&heard) / energy(&speech);
                assert!(
                    (0.7..1.4).contains(&loudness),
                    "{channels} {samples}: {loudness}"
                );
            }
        }
    }

    #[test]
    fn a_reset_encoder_carries_nothing_over() {
        let frame = &voice(1.0)[9_600..][..FRAME_SAMPLES];
        let silence = [0; FRAME_SAMPLES];
        let mut encoder = Encoder::new().unwrap();
        let fresh = encoder.encode(&silence).unwrap();
        encoder.encode(frame).unwrap();
        encoder.reset();
        assert_eq!(encoder.encode(&silence).unwrap(), fresh);
    }

    #[test]
    fn a_frame_of_another_length_is_refused() {
        let error = Encoder::new().unwrap().encode(&[0; 160]).unwrap_err();
        assert_eq!(error.to_string(), "opus: a frame has 480 samples, not 160");
    }

    #[test]
    fn an_empty_packet_is_refused() {
        assert!(Decoder::new().unwrap().decode(&[]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
        ) {
            let mut decoder = Decoder::new().unwrap();
            for packet in &packets {
                let _ = decoder.recover(packet, FRAME_SAMPLES);
                if let Ok(pcm) = decoder.decode(packet) {
                    prop_assert!(pcm.len() <= 2_880);
                }
                decoder.conceal(FRAME_SAMPLES);
            }
        }

        #[test]
        fn damaged_speech_does_not_panic_the_decoder(
            damage in prop::collection::vec((0usize..25, 0usize..200, any::<u8>()), 0..40),
        ) {
            let mut packets = encoded(&voice(0.5));
            for (packet, at, bits) in damage {
                if let Some(byte) = packets[packet].get_mut(at) {
                    *byte ^= bits;
                }
            }
            let mut decoder = Decoder::new().unwrap();
            for packet in &packets {
                let _ = decoder.recover(packet, FRAME_SAMPLES);
                let _ = decoder.decode(packet);
            }
        }
    }

    enum Repair {
        Conceal,
        Recover,
    }

    fn speech() -> Vec<i16> {
        human_speech().unwrap_or_else(|| voice(3.0))
    }

    fn encoded(speech: &[i16]) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new().unwrap();
        speech
            .chunks_exact(FRAME_SAMPLES)
            .map(|frame| encoder.encode(frame).unwrap())
            .collect()
    }

    fn decoded(packets: &[Vec<u8>], lost: impl Fn(usize) -> bool, repair: Repair) -> Vec<i16> {
        let mut decoder = Decoder::new().unwrap();
        let mut pcm = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            pcm.extend(match (lost(n), packets.get(n + 1), &repair) {
                (false, _, _) => decoder.decode(packet).unwrap(),
                (true, Some(next), Repair::Recover) => {
                    decoder.recover(next, FRAME_SAMPLES).unwrap()
                }
                (true, _, _) => decoder.conceal(FRAME_SAMPLES),
            });
        }
        pcm
    }
}
