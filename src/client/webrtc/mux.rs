//! One UDP port for every call.
//!
//! A datagram belongs to the call whose ICE username fragment a STUN binding request from the
//! same address has named last; nothing else is looked at, and the call itself verifies it.
//!
//! **Invariants.** Only what looks like STUN, DTLS, RTP or RTCP (RFC 7983) reaches a call. A call
//! is known by at most [`ADDRESSES`] addresses and has at most [`BACKLOG`] datagrams waiting.
//! Dropping a [`Line`] forgets the call and its addresses.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::clock;
use crate::core::latency::{Hop, Recorder, Sample};

/// Addresses of one call at a time: a phone changes networks, a NAT rebinds. One more, and the
/// one that was checked longest ago is forgotten until its next check.
const ADDRESSES: usize = 16;

/// Datagrams that wait for one call: five seconds of sound. More are dropped, as by any router.
const BACKLOG: usize = 256;

/// RTP packets of one call whose instants are remembered on their way through the library.
const STAMPS: usize = 64;

/// More than an Ethernet frame carries; what is longer is cut, and then fails authentication.
const MAX_DATAGRAM: usize = 2048;

/// How long reading pauses after the socket reports an error, so that none can spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// The shared port.
#[derive(Debug)]
pub(crate) struct Mux {
    socket: UdpSocket,
    ipv6: bool,
    table: Mutex<Table>,
}

impl Mux {
    /// Binds at once; needs a tokio runtime.
    pub(crate) fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self {
            socket,
            ipv6: listen.is_ipv6(),
            table: Mutex::default(),
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Hands incoming datagrams to their calls; never returns.
    pub(crate) async fn receive(&self) {
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((size, from)) => self.dispatch(&buffer[..size], from, clock::now()),
                Err(error) => {
                    tracing::debug!(%error, "UDP socket error");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    /// Connects a call, known by the ICE username fragment that it will answer with.
    pub(crate) fn connect(self: &Arc<Self>, ufrag: String, now: Instant) -> Line {
        let (sender, inbox) = mpsc::channel(BACKLOG);
        let port = Arc::new(Port {
            mux: Arc::clone(self),
            inbox: Mutex::new(inbox),
            meter: Arc::new(Meter::new(now)),
        });
        let route = Route {
            sender,
            meter: Arc::clone(&port.meter),
            addresses: VecDeque::new(),
        };
        self.table().routes.insert(ufrag.clone(), route);
        Line { port, ufrag }
    }

    fn dispatch(&self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let Some(kind) = Kind::of(datagram) else {
            return;
        };
        let mut table = self.table();
        if kind == Kind::Stun
            && let Some(ufrag) = local_ufrag(datagram)
        {
            table.claim(from, ufrag);
        }
        if let Some(route) = table.route(from) {
            if kind == Kind::Rtp {
                route.meter.arrived(sequence(datagram), now);
            }
            route.meter.heard(now);
            // A full queue is a call that cannot keep up: its packets are lost, no one else's.
            let _ = route
                .sender
                .try_send((from, Bytes::copy_from_slice(datagram)));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's hold on the shared port.
#[derive(Debug)]
pub(crate) struct Line {
    port: Arc<Port>,
    ufrag: String,
}

impl Line {
    pub(crate) fn port(&self) -> Arc<Port> {
        Arc::clone(&self.port)
    }

    /// Where the library believes to have a port of its own: of the shared port's family, as it
    /// pairs no others. The answer names the shared port.
    pub(crate) fn library_address(&self) -> &'static str {
        if self.port.mux.ipv6 {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.port.meter
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.port.mux.table().forget(&self.ufrag);
    }
}

/// What the library takes for a socket of its own.
#[derive(Debug)]
pub(crate) struct Port {
    mux: Arc<Mux>,
    inbox: Mutex<mpsc::Receiver<Datagram>>,
    meter: Arc<Meter>,
}

impl Port {
    /// Sends at once or not at all: a socket that is full drops, as any router would.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr) {
        if let Err(error) = self.mux.socket.try_send_to(datagram, to) {
            tracing::trace!(%error, %to, "Datagram not sent");
        }
        if Kind::of(datagram) == Some(Kind::Rtp) {
            self.meter.left(sequence(datagram), clock::now());
        }
    }

    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Option<Datagram>> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.poll_recv(cx)
    }
}

type Datagram = (SocketAddr, Bytes);

/// When a call's packets really crossed the socket: what happens between there and the leg is
/// the relay's own delay, and belongs into its figures.
#[derive(Debug)]
pub(crate) struct Meter {
    stamps: Mutex<Stamps>,
    recorder: OnceLock<Reporter>,
}

impl Meter {
    fn new(now: Instant) -> Self {
        Self {
            stamps: Mutex::new(Stamps {
                heard: now,
                arrived: VecDeque::new(),
                due: VecDeque::new(),
            }),
            recorder: OnceLock::new(),
        }
    }

    /// Says where the delays of outgoing packets go; only the first call counts.
    pub(crate) fn report_to(&self, recorder: Recorder) {
        let _ = self.recorder.set(Reporter(recorder));
    }

    /// When anything at all was last received for the call.
    pub(crate) fn last_heard(&self) -> Instant {
        self.stamps().heard
    }

    /// When the RTP packet with this sequence number was read from the socket, if remembered.
    pub(crate) fn arrival(&self, sequence: u16) -> Option<Instant> {
        take(&mut self.stamps().arrived, sequence)
    }

    /// The outgoing RTP packet with this sequence number is due at `due`.
    pub(crate) fn expect(&self, sequence: u16, due: Instant) {
        remember(&mut self.stamps().due, sequence, due);
    }

    fn heard(&self, now: Instant) {
        self.stamps().heard = now;
    }

    fn arrived(&self, sequence: u16, now: Instant) {
        remember(&mut self.stamps().arrived, sequence, now);
    }

    fn left(&self, sequence: u16, now: Instant) {
        let due = take(&mut self.stamps().due, sequence);
        if let (Some(due), Some(Reporter(record))) = (due, self.recorder.get()) {
            record(Sample {
                hop: Hop::RelayOut,
                took: now.saturating_duration_since(due),
            });
        }
    }

    fn stamps(&self) -> MutexGuard<'_, Stamps> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reporter(Recorder);

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

#[derive(Debug)]
struct Stamps {
    heard: Instant,
    arrived: VecDeque<(u16, Instant)>,
    due: VecDeque<(u16, Instant)>,
}

fn remember(stamps: &mut VecDeque<(u16, Instant)>, sequence: u16, at: Instant) {
    if stamps.len() == STAMPS {
        stamps.pop_front();
    }
    stamps.push_back((sequence, at));
}

fn take(stamps: &mut VecDeque<(u16, Instant)>, sequence: u16) -> Option<Instant> {
    let index = stamps.iter().position(|stamp| stamp.0 == sequence)?;
    stamps.remove(index).map(|stamp| stamp.1)
}

/// Who is where.
#[derive(Debug, Default)]
struct Table {
    routes: HashMap<String, Route>,
    /// From a peer's address to the `ufrag` of its call.
    by_address: HashMap<SocketAddr, String>,
}

#[derive(Debug)]
struct Route {
    sender: mpsc::Sender<Datagram>,
    meter: Arc<Meter>,
    /// The address that was checked last is at the back.
    addresses: VecDeque<SocketAddr>,
}

impl Table {
    fn route(&self, from: SocketAddr) -> Option<&Route> {
        self.routes.get(self.by_address.get(&from)?)
    }

    /// Gives an address to the call that `ufrag` names, if there is one.
    fn claim(&mut self, from: SocketAddr, ufrag: &str) {
        let Some(route) = self.routes.get_mut(ufrag) else {
            return;
        };
        route.addresses.retain(|address| *address != from);
        if route.addresses.len() == ADDRESSES
            && let Some(oldest) = route.addresses.pop_front()
        {
            self.by_address.remove(&oldest);
        }
        route.addresses.push_back(from);

        let before = self.by_address.insert(from, ufrag.into());
        if let Some(loser) = before.filter(|before| before != ufrag)
            && let Some(route) = self.routes.get_mut(&loser)
        {
            route.addresses.retain(|address| *address != from);
        }
    }

    fn forget(&mut self, ufrag: &str) {
        let Some(route) = self.routes.remove(ufrag) else {
            return;
        };
        for address in route.addresses {
            self.by_address.remove(&address);
        }
    }
}

/// What a datagram looks like (RFC 7983; RFC 5761 for the line between RTP and RTCP).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

impl Kind {
    fn of(datagram: &[u8]) -> Option<Self> {
        match datagram {
            [0..=3, ..] if datagram.len() >= STUN_HEADER => Some(Self::Stun),
            [20..=63, ..] => Some(Self::Dtls),
            [128..=191, 192..=223, ..] => Some(Self::Rtcp),
            [128..=191, ..] if datagram.len() >= RTP_HEADER => Some(Self::Rtp),
            _ => None,
        }
    }
}

const STUN_HEADER: usize = 20;
const RTP_HEADER: usize = 12;

fn sequence(rtp: &[u8]) -> u16 {
    u16::from_be_bytes([rtp[2], rtp[3]])
}

/// Returns our half of the `USERNAME` of a STUN binding request (RFC 8445, section 7.2.2).
fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    const BINDING_REQUEST: [u8; 2] = [0, 1];
    const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    const USERNAME: u16 = 6;

    let (header, mut attributes) = datagram.split_at_checked(STUN_HEADER)?;
    if header[..2] != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE {
        return None;
    }
    while let [t0, t1, l0, l1, rest @ ..] = attributes {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if u16::from_be_bytes([*t0, *t1]) == USERNAME {
            let username = std::str::from_utf8(rest.get(..length)?).ok()?;
            return username.split(':').next();
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn check(username: &str) -> Vec<u8> {
        let mut datagram = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        datagram.extend([7; 12]);
        // An attribute with padding comes first.
        datagram.extend([0x80, 0x22, 0, 1, b'x', 0, 0, 0]);
        datagram.extend([0, 6, 0, username.len() as u8]);
        datagram.extend(username.as_bytes());
        datagram
    }

    fn media(sequence: u16) -> Vec<u8> {
        let mut datagram = vec![0x80, 111];
        datagram.extend(sequence.to_be_bytes());
        datagram.extend([0; 16]);
        datagram
    }

    fn mux() -> Arc<Mux> {
        Arc::new(Mux::bind(([127, 0, 0, 1], 0).into()).unwrap())
    }

    fn received(line: &Line) -> usize {
        let mut inbox = line.port.inbox.lock().unwrap();
        std::iter::from_fn(|| inbox.try_recv().ok()).count()
    }

    #[tokio::test]
    async fn a_check_opens_the_way_for_what_follows_from_its_address() {
        let (mux, now) = (mux(), clock::now());
        let (ann, bob) = (
            mux.connect("ann".into(), now),
            mux.connect("bob".into(), now),
        );
        mux.dispatch(&media(1), address(1), now);
        mux.dispatch(&check("ann:x"), address(1), now);
        mux.dispatch(&check("bob:x"), address(2), now);
        mux.dispatch(&media(2), address(1), now);
        mux.dispatch(&media(2), address(3), now);
        assert_eq!((received(&ann), received(&bob)), (2, 1));
    }

    #[tokio::test]
    async fn the_last_call_named_by_an_address_gets_its_datagrams() {
        let (mux, now) = (mux(), clock::now());
        let (ann, bob) = (
            mux.connect("ann".into(), now),
            mux.connect("bob".into(), now),
        );
        mux.dispatch(&check("ann:x"), address(1), now);
        mux.dispatch(&check("bob:x"), address(1), now);
        mux.dispatch(&media(1), address(1), now);
        assert_eq!((received(&ann), received(&bob)), (1, 2));
        drop(ann);
        mux.dispatch(&media(2), address(1), now);
        assert_eq!(received(&bob), 1);
    }

    #[tokio::test]
    async fn a_dropped_line_leaves_nothing_behind() {
        let (mux, now) = (mux(), clock::now());
        let line = mux.connect("ann".into(), now);
        mux.dispatch(&check("ann:x"), address(1), now);
        drop(line);
        let table = mux.table();
        assert!(table.routes.is_empty() && table.by_address.is_empty());
    }

    #[tokio::test]
    async fn a_call_keeps_a_bounded_number_of_addresses() {
        let (mux, now) = (mux(), clock::now());
        let line = mux.connect("ann".into(), now);
        for port in 1..=100 {
            mux.dispatch(&check("ann:x"), address(port), now);
        }
        assert_eq!(mux.table().by_address.len(), ADDRESSES);
        received(&line);
        mux.dispatch(&media(1), address(1), now);
        mux.dispatch(&media(1), address(100), now);
        assert_eq!(received(&line), 1);
    }

    #[tokio::test]
    async fn a_call_that_does_not_keep_up_loses_its_own_datagrams() {
        let (mux, now) = (mux(), clock::now());
        let (ann, bob) = (
            mux.connect("ann".into(), now),
            mux.connect("bob".into(), now),
        );
        mux.dispatch(&check("bob:x"), address(2), now);
        for _ in 0..1000 {
            mux.dispatch(&check("ann:x"), address(1), now);
        }
        assert_eq!((received(&ann), received(&bob)), (BACKLOG, 1));
    }

    #[tokio::test]
    async fn arrivals_are_remembered_by_sequence_number_and_bounded() {
        let (mux, now) = (mux(), clock::now());
        let line = mux.connect("ann".into(), now);
        mux.dispatch(&check("ann:x"), address(1), now);
        for sequence in 0..100 {
            let at = now + Duration::from_millis(sequence.into());
            mux.dispatch(&media(sequence), address(1), at);
        }
        assert_eq!(
            line.meter().arrival(99),
            Some(now + Duration::from_millis(99))
        );
        assert_eq!(line.meter().arrival(99), None);
        assert_eq!(line.meter().arrival(0), None);
        assert_eq!(line.meter().last_heard(), now + Duration::from_millis(99));
    }

    #[tokio::test]
    async fn an_outgoing_packet_reports_how_late_it_left() {
        let line = mux().connect("ann".into(), clock::now());
        let samples = Arc::new(Mutex::new(Vec::new()));
        let store = Arc::clone(&samples);
        line.meter()
            .report_to(Arc::new(move |sample| store.lock().unwrap().push(sample)));
        line.meter()
            .expect(7, clock::now() + Duration::from_secs(60));
        line.port().send(&media(6), address(1));
        line.port().send(&media(7), address(1));
        line.port().send(&media(7), address(1));
        let (hop, took) = (Hop::RelayOut, Duration::ZERO);
        assert_eq!(*samples.lock().unwrap(), [Sample { hop, took }]);
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_is_too_strange(datagram: Vec<u8>) {
            if Kind::of(&datagram) == Some(Kind::Rtp) {
                sequence(&datagram);
            }
            local_ufrag(&datagram);
            let mut check = check("ann:x");
            let cut = datagram.len().min(check.len());
            check.truncate(cut);
            local_ufrag(&check);
        }
    }
}
