//! What a bad network leaves of a person's voice: 5 % of the packets lost, the others up to
//! 40 ms late. What reaches the session is compared with the same call over a good network.

mod support;

use std::time::Duration;

use voxline::core::port::FromClient;
use voxline::media::{FRAME_SAMPLES, SAMPLE_RATE};

use crate::support::call::{Session, endpoint};
use crate::support::network::{Network, Weather};
use crate::support::peer::{Peer, within};
use crate::support::speech::{packets, speech};

const BAD: Weather = Weather {
    loss: 0.05,
    jitter: Duration::from_millis(40),
    seed: 20,
};

/// How much of the voice must survive: far less than does, as the machine may be busy.
const LEAST_CORRELATION: f64 = 0.95;
const LEAST_SNR: f64 = 15.0;

#[tokio::test]
async fn speech_survives_loss_and_jitter() {
    let speech = speech().repeat(2);
    let packets = packets(&speech);
    let ((good, _), (bad, lost)) = tokio::join!(
        heard_through(Weather::FINE, &packets),
        heard_through(BAD, &packets),
    );

    let (length, reference) = (seconds(&bad), seconds(&good));
    let bad = aligned(&good, &bad);
    let correlation = correlation(&good, &bad);
    let snr = segmental_snr(&good, &bad);
    println!(
        "{lost} of {count} packets lost, the others up to 40 ms late: {length:.2} s of \
         {reference:.2} s, correlation {correlation:.3}, segmental SNR {snr:.1} dB",
        count = packets.len(),
    );
    assert!((15..50).contains(&lost), "{lost}");
    assert!(
        (length / reference - 1.0).abs() < 0.01,
        "{length} of {reference}"
    );
    assert!(correlation > LEAST_CORRELATION, "{correlation}");
    assert!(snr > LEAST_SNR, "{snr}");
}

/// Speaks the packets in real time through such a network; returns what the session gets, and
/// how many packets were lost.
async fn heard_through(weather: Weather, packets: &[Vec<u8>]) -> (Vec<i16>, usize) {
    let endpoint = endpoint();
    let relay = endpoint.addresses()[0];
    let network = Network::before(relay, weather).await;
    let mut peer = Peer::new(&["oai-events"]).await;
    let (answer, leg) = endpoint
        .answer(&peer.offer().await)
        .await
        .expect("an answer");
    let mut session = Session::start(leg);
    peer.connect(&network.reroute(&answer, relay)).await;

    let mut every_frame = tokio::time::interval(Duration::from_millis(20));
    let speaking = async {
        for (index, packet) in (0_u32..).zip(packets) {
            every_frame.tick().await;
            peer.speak(packet.clone(), index * 960).await;
        }
        // The last words are on their way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        peer.hang_up().await;
    };
    let hearing = async {
        let mut heard = Vec::new();
        while let Some(message) = within("sound", session.from_leg.recv()).await {
            if let FromClient::Audio { payload, .. } = message {
                let pairs = payload.chunks_exact(2);
                heard.extend(pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
            }
        }
        heard
    };
    let ((), mut heard) = tokio::join!(speaking, hearing);
    // Silence stands in for a sender that says nothing; that is not part of what was said.
    let end = heard.iter().rposition(|sample| *sample != 0).unwrap_or(0);
    heard.truncate(end.next_multiple_of(FRAME_SAMPLES));
    (heard, network.lost())
}

/// Puts each frame where the reference has it. A machine that holds everything up for a while does
/// to a call what a stalled network does: a frame of silence stands in, and the rest is later.
fn aligned(reference: &[i16], heard: &[i16]) -> Vec<i16> {
    const REACH: usize = 8;
    let frames: Vec<&[i16]> = heard.chunks_exact(FRAME_SAMPLES).collect();
    let distance = |a: &[i16], b: &[i16]| -> f64 {
        let differences = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
        differences.map(|difference| difference * difference).sum()
    };
    reference
        .chunks_exact(FRAME_SAMPLES)
        .enumerate()
        .filter_map(|(index, wanted)| {
            let last = (index + REACH + 1).min(frames.len());
            let near = frames.get(index.saturating_sub(REACH)..last)?.iter();
            near.min_by(|a, b| distance(wanted, a).total_cmp(&distance(wanted, b)))
        })
        .flat_map(|frame| frame.iter().copied())
        .collect()
}

fn seconds(pcm: &[i16]) -> f64 {
    pcm.len() as f64 / f64::from(SAMPLE_RATE)
}

fn correlation(left: &[i16], right: &[i16]) -> f64 {
    let dot = |a: &[i16], b: &[i16]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

/// The mean over the 20 ms frames that hold sound of their SNR, each kept within 0..35 dB as is
/// usual, so that neither perfect nor lost frames outweigh the others.
fn segmental_snr(reference: &[i16], heard: &[i16]) -> f64 {
    let frames = reference
        .chunks_exact(FRAME_SAMPLES)
        .zip(heard.chunks_exact(FRAME_SAMPLES));
    let snrs: Vec<f64> = frames
        .filter_map(|(reference, heard)| {
            let power = |x: f64| x * x;
            let signal: f64 = reference.iter().map(|s| power(f64::from(*s))).sum();
            let noise: f64 = reference
                .iter()
                .zip(heard)
                .map(|(r, h)| power(f64::from(*r) - f64::from(*h)))
                .sum();
            let sounds = signal > power(100.0) * FRAME_SAMPLES as f64;
            sounds.then(|| (10.0 * (signal / noise.max(1.0)).log10()).clamp(0.0, 35.0))
        })
        .collect();
    snrs.iter().sum::<f64>() / snrs.len() as f64
}
