//! A bad network between a client and the relay: a UDP proxy that loses and delays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What the network does to a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    /// Each packet is late by anything from zero to this.
    pub(crate) jitter: Duration,
    pub(crate) seed: u64,
}

/// Packets of sound.
#[derive(Default)]
struct Counts {
    lost: AtomicUsize,
    up: AtomicUsize,
    down: AtomicUsize,
}

/// The proxy.
pub(crate) struct Network {
    address: SocketAddr,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Network {
    /// Puts itself in front of `relay`.
    pub(crate) async fn before(relay: SocketAddr, weather: Weather) -> Self {
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        inside.connect(relay).await.unwrap();
        let address = outside.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let counts = Arc::<Counts>::default();
        tasks.spawn(forward(outside, inside, weather, Arc::clone(&counts)));
        Self {
            address,
            counts,
            _tasks: tasks,
        }
    }

    /// How many packets of the client's sound did not arrive.
    pub(crate) fn lost(&self) -> usize {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// How many packets of sound have passed, to the relay and to the client.
    pub(crate) fn carried(&self) -> [usize; 2] {
        [&self.counts.up, &self.counts.down].map(|count| count.load(Ordering::Relaxed))
    }

    /// Makes an answer name the proxy instead of the relay.
    pub(crate) fn reroute(&self, answer: &str, relay: SocketAddr) -> String {
        let (from, to) = (relay.port().to_string(), self.address.port().to_string());
        answer.replace(&format!(" {from} typ host"), &format!(" {to} typ host"))
    }
}

/// Knows one client: the one that sent last.
async fn forward(
    outside: Arc<UdpSocket>,
    inside: Arc<UdpSocket>,
    weather: Weather,
    counts: Arc<Counts>,
) {
    let mut client = None;
    let mut upward = [0; 2048];
    let mut downward = [0; 2048];
    let mut on_their_way = JoinSet::new();
    let mut fate = StdRng::seed_from_u64(weather.seed);
    loop {
        let (packet, to) = tokio::select! {
            received = outside.recv_from(&mut upward) => {
                let (size, from) = received.unwrap();
                client = Some(from);
                (&upward[..size], None)
            }
            received = inside.recv(&mut downward) => match received {
                Ok(size) => (&downward[..size], client),
                Err(_) => continue,
            },
            Some(_) = on_their_way.join_next() => continue,
        };
        let sound = usize::from(is_sound(packet));
        let Some(delay) = weather.delay(packet, &mut fate) else {
            if to.is_none() {
                counts.lost.fetch_add(sound, Ordering::Relaxed);
            }
            continue;
        };
        let carried = if to.is_none() {
            &counts.up
        } else {
            &counts.down
        };
        carried.fetch_add(sound, Ordering::Relaxed);
        let packet = packet.to_vec();
        let (outside, inside) = (Arc::clone(&outside), Arc::clone(&inside));
        on_their_way.spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = match to {
                Some(client) => outside.send_to(&packet, client).await,
                None => inside.send(&packet).await,
            };
        });
    }
}

impl Weather {
    pub(crate) const FINE: Self = Self {
        loss: 0.0,
        jitter: Duration::ZERO,
        seed: 0,
    };

    /// Returns how late the packet is; `None` if it is lost. The fate of sound depends on its
    /// sequence number and the seed alone, so that each run loses the same.
    fn delay(self, packet: &[u8], fate: &mut StdRng) -> Option<Duration> {
        let mut own;
        let fate = if is_sound(packet) {
            let sequence = u64::from(u16::from_be_bytes([packet[2], packet[3]]));
            own = StdRng::seed_from_u64(self.seed ^ (sequence << 32));
            &mut own
        } else {
            fate
        };
        let lost = fate.random_bool(self.loss);
        let delay = self.jitter.mul_f64(fate.random());
        (!lost).then_some(delay)
    }
}

/// RTP, not RTCP (RFC 5761), DTLS or STUN.
fn is_sound(packet: &[u8]) -> bool {
    matches!(packet, [0x80..=0xbf, second, _, _, ..] if !(192..=223).contains(second))
}
