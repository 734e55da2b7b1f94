//! Opus at 24 kHz mono in 20 ms frames (RFC 6716), behind a choice of two libraries.
//!
//! The pure Rust one serves by default, libopus with the feature `libopus`; packets of one are
//! understood by the other.
//!
//! **Invariant:** no bytes panic the decoder; what is no packet (RFC 6716 section 3) is an error.

#[cfg(feature = "libopus")]
mod libopus;
#[cfg(any(test, not(feature = "libopus")))]
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

    /// Rebuilds the frame before `next`, whose packet is lost, from the copy in `next` (in-band
    /// FEC), or conceals it if there is none. It is as long as [`frame_samples`] of `next`,
    /// which is itself still to be decoded.
    pub fn recover(&mut self, next: &[u8]) -> Result<Vec<i16>, CodecError> {
        samples(next)?;
        let mut pcm = vec![0; frame_samples(next)?];
        let recovered = self.library.recover(next, &mut pcm)?;
        pcm.truncate(recovered);
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
    fn concealment_lasts_as_long_as_asked() {
        let packets = encoded(&speech());
        let mut decoder = Decoder::new().unwrap();
        decoder.decode(&packets[50]).unwrap();
        for samples in [
            0, 1, 59, 60, 61, 240, 479, 480, 481, 960, 1_440, 2_880, 24_000,
        ] {
            assert_eq!(decoder.conceal(samples).len(), samples);
        }
    }

    #[test]
    fn recovery_lasts_as_long_as_a_frame_of_the_next_packet() {
        for samples in [60, 480, 960, 1_440, 2_880] {
            let packets = browser_packets(&voice(0.5), samples, 1, true);
            let mut decoder = Decoder::new().unwrap();
            decoder.decode(&packets[0]).unwrap();
            let recovered = decoder.recover(&packets[2]).unwrap();
            assert_eq!(recovered.len(), frame_samples(&packets[2]).unwrap());
        }
    }

    #[test]
    fn packets_of_every_duration_and_stereo_decode_to_mono() {
        let speech = voice(1.2);
        for (channels, is_speech) in [(1, true), (1, false), (2, true), (2, false)] {
            for samples in [60, 120, 240, 480, 960, 1_440, 1_920, 2_400, 2_880] {
                let mut decoder = Decoder::new().unwrap();
                let mut heard = Vec::new();
                for packet in browser_packets(&speech, samples, channels, is_speech) {
                    let pcm = decoder.decode(&packet).unwrap();
                    assert_eq!(pcm.len(), samples);
                    heard.extend(pcm);
                }
                let loudness = energy(&heard) / energy(&speech);
                assert!(
                    (0.7..1.4).contains(&loudness),
                    "{channels} channels, {samples} samples: {loudness}"
                );
            }
        }
    }

    #[cfg(feature = "libopus")]
    #[test]
    fn each_library_understands_the_other() {
        let speech = speech();
        let encoders: [(&str, Box<dyn Encode>); 2] = [
            ("pure", Box::new(pure::Encoder::new().unwrap())),
            ("libopus", Box::new(libopus::Encoder::new().unwrap())),
        ];
        for (name, library) in encoders {
            let packets = encoded_by(Encoder { library }, &speech);
            for repair in [Repair::Conceal, Repair::Recover] {
                let decoders: [Box<dyn Decode>; 2] = [
                    Box::new(pure::Decoder::new().unwrap()),
                    Box::new(libopus::Decoder::new().unwrap()),
                ];
                let lost = |n: usize| n % 20 == 13;
                let [pure, libopus] = decoders
                    .map(|library| decoded_by(Decoder { library }, &packets, lost, &repair));
                let snr = snr(&libopus, &pure);
                assert!(snr > 40.0, "{name}: {snr:.1} dB");
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
                let _ = decoder.recover(packet);
                if let Ok(pcm) = decoder.decode(packet) {
                    prop_assert!(pcm.len() <= 2_880);
                }
                decoder.conceal(FRAME_SAMPLES);
            }
        }

        #[test]
        fn no_damage_to_a_stream_panics_the_decoder(
            streams in prop::collection::vec((1usize..=2, 0usize..7, any::<bool>()), 1..4),
            damage in prop::collection::vec((0usize..30, 0usize..200, any::<u8>()), 0..40),
            cuts in prop::collection::vec((0usize..30, 0usize..200), 0..3),
        ) {
            let mut packets: Vec<_> = streams
                .into_iter()
                .flat_map(|(channels, duration, is_speech)| {
                    let samples = [60, 120, 240, 480, 960, 1_440, 2_880][duration];
                    browser_packets(&voice(0.24), samples, channels, is_speech)
                })
                .collect();
            for (packet, at, bits) in damage {
                if let Some(byte) = packets.get_mut(packet).and_then(|packet| packet.get_mut(at)) {
                    *byte ^= bits;
                }
            }
            for (packet, at) in cuts {
                if let Some(packet) = packets.get_mut(packet) {
                    packet.truncate(at);
                }
            }
            let mut decoder = Decoder::new().unwrap();
            for (n, packet) in packets.iter().enumerate() {
                if n % 5 == 4 {
                    let _ = decoder.recover(packet);
                }
                if n % 7 == 6 {
                    decoder.conceal(1_200);
                }
                let _ = decoder.decode(packet);
            }
        }
    }

    /// What a browser may send.
    fn browser_packets(
        speech: &[i16],
        samples: usize,
        channels: usize,
        is_speech: bool,
    ) -> Vec<Vec<u8>> {
        let application = if is_speech {
            opus_pure::Application::Voip
        } else {
            opus_pure::Application::Audio
        };
        let mut encoder =
            opus_pure::OpusEncoder::new(SAMPLE_RATE as i32, channels, application).unwrap();
        encoder.bitrate_bps = if is_speech { 20_000 } else { 64_000 };
        encoder.use_inband_fec = is_speech;
        encoder.packet_loss_perc = 10;
        speech
            .chunks_exact(samples)
            .map(|frame| {
                let pcm: Vec<i16> = frame
                    .iter()
                    .flat_map(|s| std::iter::repeat_n(*s, channels))
                    .collect();
                let mut packet = vec![0; opus_pure::MAX_PACKET_BYTES];
                let length = encoder.encode_s16(&pcm, samples, &mut packet).unwrap();
                packet.truncate(length);
                packet
            })
            .collect()
    }

    enum Repair {
        Conceal,
        Recover,
    }

    fn speech() -> Vec<i16> {
        human_speech().unwrap_or_else(|| voice(3.0))
    }

    fn encoded(speech: &[i16]) -> Vec<Vec<u8>> {
        encoded_by(Encoder::new().unwrap(), speech)
    }

    fn encoded_by(mut encoder: Encoder, speech: &[i16]) -> Vec<Vec<u8>> {
        speech
            .chunks_exact(FRAME_SAMPLES)
            .map(|frame| encoder.encode(frame).unwrap())
            .collect()
    }

    fn decoded(packets: &[Vec<u8>], lost: impl Fn(usize) -> bool, repair: Repair) -> Vec<i16> {
        decoded_by(Decoder::new().unwrap(), packets, lost, &repair)
    }

    fn decoded_by(
        mut decoder: Decoder,
        packets: &[Vec<u8>],
        lost: impl Fn(usize) -> bool,
        repair: &Repair,
    ) -> Vec<i16> {
        let mut pcm = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            pcm.extend(match (lost(n), packets.get(n + 1), repair) {
                (false, _, _) => decoder.decode(packet).unwrap(),
                (true, Some(next), Repair::Recover) => decoder.recover(next).unwrap(),
                (true, _, _) => decoder.conceal(FRAME_SAMPLES),
            });
        }
        pcm
    }
}
