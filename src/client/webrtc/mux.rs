//! One UDP port for every call.
//!
//! A datagram belongs to the call that a connectivity check from the same address was for: the
//! last one that named this call's ICE user, and was signed with its password.
//!
//! **Invariants.** Only what looks like STUN, DTLS, RTP or RTCP (RFC 7983) reaches a call, and only
//! from an address that has sent a valid check; nothing is sent to any other. A call is known by
//! at most [`ADDRESSES`] addresses and has at most [`BACKLOG`] datagrams waiting. Dropping a
//! [`Line`] forgets the call, its names and its addresses.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::client::webrtc::ice::{ADDRESSES, Credentials, Ice, Reaction, Restart};
use crate::client::webrtc::meter::Meter;
use crate::client::webrtc::stun::{self, Binding, Class};
use crate::clock;

/// Datagrams that wait for one call: five seconds of sound. More are dropped, as by any router.
const BACKLOG: usize = 256;

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

    /// Connects a call of ours, `local`, and the client's, `remote`.
    pub(crate) fn connect(
        self: &Arc<Self>,
        local: Credentials,
        remote: Credentials,
        now: Instant,
    ) -> Line {
        let (sender, inbox) = mpsc::channel(BACKLOG);
        let name = local.ufrag.clone();
        let ice = Arc::new(Mutex::new(Ice::new(local, remote)));
        let meter = Arc::new(Meter::new(now));
        let route = Route {
            sender,
            meter: Arc::clone(&meter),
            ice: Arc::clone(&ice),
            names: Vec::new(),
            addresses: VecDeque::new(),
        };
        let mut table = self.table();
        let id = table.add(route);
        table.name(id, name);
        Line {
            port: Arc::new(Port {
                mux: Arc::clone(self),
                id,
                ice,
                inbox: Mutex::new(inbox),
                meter,
                hushed: AtomicBool::new(false),
            }),
        }
    }

    fn dispatch(&self, datagram: &[u8], from: SocketAddr, now: Instant) {
        match Kind::of(datagram) {
            Some(Kind::Stun) => {
                for reply in self.table().on_stun(datagram, from, now) {
                    self.send(&reply, from);
                }
            }
            Some(kind @ (Kind::Dtls | Kind::Rtp | Kind::Rtcp)) => {
                if let Some(route) = self.table().route(from) {
                    if kind == Kind::Rtp {
                        route.meter.arrived(sequence(datagram), now);
                    }
                    route.pass_on(datagram, from);
                }
            }
            None => {}
        }
    }

    /// Sends at once or not at all: a socket that is full drops, as any router would.
    fn send(&self, datagram: &[u8], to: SocketAddr) {
        if let Err(error) = self.socket.try_send_to(datagram, to) {
            tracing::trace!(%error, %to, "Datagram not sent");
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// A call's hold on the shared port.
#[derive(Debug)]
pub(crate) struct Line {
    port: Arc<Port>,
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
        self.port.mux.table().forget(self.port.id);
    }
}

/// What the library takes for a socket of its own.
#[derive(Debug)]
pub(crate) struct Port {
    mux: Arc<Mux>,
    id: Id,
    ice: Arc<Mutex<Ice>>,
    inbox: Mutex<mpsc::Receiver<Datagram>>,
    meter: Arc<Meter>,
    hushed: AtomicBool,
}

impl Port {
    /// Sends what the library has for the client to where the client is. The library's checks
    /// say no more than that one is due, once the call is connected.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr) {
        let kind = Kind::of(datagram);
        if kind == Some(Kind::Stun) {
            match lock(&self.ice).keep_alive() {
                Some((to, check)) => {
                    if let Some(binding) = Binding::parse(&check) {
                        self.meter.way().asked(binding.transaction, clock::now());
                    }
                    self.mux.send(&check, to);
                }
                None => self.mux.send(datagram, to),
            }
            return;
        }
        if kind == Some(Kind::Rtp) && self.hushed.load(Ordering::Relaxed) {
            return;
        }
        let to = lock(&self.ice).route(to);
        self.mux.send(datagram, to);
        if kind == Some(Kind::Rtp) {
            self.meter.left(sequence(datagram), clock::now());
        }
    }

    /// Restarts ICE if these are new credentials of the client's; `None` if the call is over.
    pub(crate) fn restart(&self, remote: Credentials) -> Option<Restart> {
        let mut table = self.mux.table();
        if !table.calls.contains_key(&self.id) {
            return None;
        }
        let restart = lock(&self.ice).restart(remote, Credentials::random());
        if let Restart::Prepared { local, retired } = &restart {
            if let Some(retired) = retired {
                table.unname(retired);
            }
            table.name(self.id, local.ufrag.clone());
        }
        Some(restart)
    }

    /// Has no sound leave: what is sent now will be sent again.
    pub(crate) fn hush(&self, hushed: bool) {
        self.hushed.store(hushed, Ordering::Relaxed);
    }

    /// Whether ICE is being restarted, and has not found a path yet.
    pub(crate) fn is_restarting(&self) -> bool {
        lock(&self.ice).is_restarting()
    }

    /// Our ICE user in the session that began last.
    pub(crate) fn ufrag(&self) -> String {
        lock(&self.ice).ufrag().into()
    }

    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Option<Datagram>> {
        lock(&self.inbox).poll_recv(cx)
    }
}

type Datagram = (SocketAddr, Bytes);

/// Who is where.
#[derive(Debug, Default)]
struct Table {
    calls: HashMap<Id, Route>,
    last: Id,
    /// From our ICE users to their calls.
    by_name: HashMap<String, Id>,
    /// From clients' addresses to their calls.
    by_address: HashMap<SocketAddr, Id>,
}

type Id = u64;

#[derive(Debug)]
struct Route {
    sender: mpsc::Sender<Datagram>,
    meter: Arc<Meter>,
    ice: Arc<Mutex<Ice>>,
    names: Vec<String>,
    /// The address that was checked last is at the back.
    addresses: VecDeque<SocketAddr>,
}

impl Table {
    fn route(&self, from: SocketAddr) -> Option<&Route> {
        self.calls.get(self.by_address.get(&from)?)
    }

    /// Returns what is to be replied.
    fn on_stun(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Vec<Vec<u8>> {
        let reaction = Binding::parse(datagram).and_then(|binding| match binding.class {
            Class::Request => {
                let id = *self.by_name.get(binding.names?.0)?;
                let reaction = lock(&self.calls.get(&id)?.ice).handle_request(&binding, from)?;
                self.claim(from, id);
                Some(reaction)
            }
            Class::Success => {
                let route = self.route(from)?;
                let reaction = lock(&route.ice).handle_success(&binding, from)?;
                route.meter.way().answered(binding.transaction, now);
                Some(reaction)
            }
        });
        let Some(Reaction {
            replies,
            pass_on,
            retired,
        }) = reaction
        else {
            return Vec::new();
        };
        if let Some(route) = self.route(from) {
            route.meter.heard(now);
            if pass_on {
                route.pass_on(datagram, from);
            }
        }
        if let Some(retired) = retired {
            self.unname(&retired);
        }
        replies
    }

    fn add(&mut self, route: Route) -> Id {
        self.last += 1;
        self.calls.insert(self.last, route);
        self.last
    }

    /// Has a call known by one more name.
    fn name(&mut self, id: Id, name: String) {
        if let Some(route) = self.calls.get_mut(&id)
            && !route.names.contains(&name)
        {
            route.names.push(name.clone());
            self.by_name.insert(name, id);
        }
    }

    fn unname(&mut self, name: &str) {
        if let Some(id) = self.by_name.remove(name)
            && let Some(route) = self.calls.get_mut(&id)
        {
            route.names.retain(|known| known != name);
        }
    }

    /// Gives an address to a call.
    fn claim(&mut self, from: SocketAddr, id: Id) {
        let Some(route) = self.calls.get_mut(&id) else {
            return;
        };
        route.addresses.retain(|address| *address != from);
        if route.addresses.len() == ADDRESSES
            && let Some(oldest) = route.addresses.pop_front()
        {
            self.by_address.remove(&oldest);
        }
        route.addresses.push_back(from);

        let before = self.by_address.insert(from, id);
        if let Some(loser) = before.filter(|before| *before != id)
            && let Some(route) = self.calls.get_mut(&loser)
        {
            route.addresses.retain(|address| *address != from);
        }
    }

    fn forget(&mut self, id: Id) {
        let Some(route) = self.calls.remove(&id) else {
            return;
        };
        for name in route.names {
            self.by_name.remove(&name);
        }
        for address in route.addresses {
            self.by_address.remove(&address);
        }
    }
}

impl Route {
    fn pass_on(&self, datagram: &[u8], from: SocketAddr) {
        // A full queue is a call that cannot keep up: its packets are lost, no one else's.
        let datagram = (from, Bytes::copy_from_slice(datagram));
        let _ = self.sender.try_send(datagram);
    }
}

/// What these locks protect is whole after every call, whoever panicked while holding one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            [0..=3, ..] if datagram.len() >= stun::HEADER => Some(Self::Stun),
            [20..=63, ..] => Some(Self::Dtls),
            [128..=191, 192..=223, ..] => Some(Self::Rtcp),
            [128..=191, ..] if datagram.len() >= RTP_HEADER => Some(Self::Rtp),
            _ => None,
        }
    }
}

const RTP_HEADER: usize = 12;

fn sequence(rtp: &[u8]) -> u16 {
    u16::from_be_bytes([rtp[2], rtp[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::webrtc::ice::tests::{address, credentials};
    use crate::core::latency::{Measure, Sample, Transport};
    use crate::core::port::Source;

    fn connect(mux: &Arc<Mux>, name: &str, now: Instant) -> Line {
        mux.connect(credentials(name), credentials("they"), now)
    }

    /// A check for the call that has this name.
    fn check(name: &str) -> Vec<u8> {
        stun::check([7; 12], name, "they", &credentials(name).password)
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
        let (ann, bob) = (connect(&mux, "ann", now), connect(&mux, "bob", now));
        mux.dispatch(&media(1), address(1), now);
        mux.dispatch(&check("ann"), address(1), now);
        mux.dispatch(&check("bob"), address(2), now);
        mux.dispatch(&media(2), address(1), now);
        mux.dispatch(&media(2), address(3), now);
        assert_eq!((received(&ann), received(&bob)), (2, 1));
    }

    #[tokio::test]
    async fn the_last_call_named_by_an_address_gets_its_datagrams() {
        let (mux, now) = (mux(), clock::now());
        let (ann, bob) = (connect(&mux, "ann", now), connect(&mux, "bob", now));
        mux.dispatch(&check("ann"), address(1), now);
        mux.dispatch(&check("bob"), address(1), now);
        mux.dispatch(&media(1), address(1), now);
        assert_eq!((received(&ann), received(&bob)), (1, 2));
        drop(ann);
        mux.dispatch(&media(2), address(1), now);
        assert_eq!(received(&bob), 1);
    }

    #[tokio::test]
    async fn a_dropped_line_leaves_nothing_behind() {
        let (mux, now) = (mux(), clock::now());
        let line = connect(&mux, "ann", now);
        mux.dispatch(&check("ann"), address(1), now);
        drop(line);
        let table = mux.table();
        assert!(table.calls.is_empty() && table.by_name.is_empty() && table.by_address.is_empty());
    }

    #[tokio::test]
    async fn a_call_keeps_a_bounded_number_of_addresses() {
        let (mux, now) = (mux(), clock::now());
        let line = connect(&mux, "ann", now);
        for port in 1..=100 {
            mux.dispatch(&check("ann"), address(port), now);
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
        let (ann, bob) = (connect(&mux, "ann", now), connect(&mux, "bob", now));
        mux.dispatch(&check("bob"), address(2), now);
        for _ in 0..1000 {
            mux.dispatch(&check("ann"), address(1), now);
        }
        assert_eq!((received(&ann), received(&bob)), (BACKLOG, 1));
    }

    #[tokio::test]
    async fn arrivals_are_remembered_by_sequence_number_and_bounded() {
        let (mux, now) = (mux(), clock::now());
        let line = connect(&mux, "ann", now);
        mux.dispatch(&check("ann"), address(1), now);
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
        // Anybody can send what is not signed.
        assert_eq!(line.meter().last_heard(), now);
    }

    #[tokio::test]
    async fn an_outgoing_packet_reports_how_late_it_left() {
        let line = connect(&mux(), "ann", clock::now());
        let samples = Arc::new(Mutex::new(Vec::new()));
        let store = Arc::clone(&samples);
        line.meter()
            .report_to(Arc::new(move |sample| store.lock().unwrap().push(sample)));
        line.meter().expect(
            7,
            clock::now() + Duration::from_secs(60),
            Some(Duration::ZERO),
        );
        line.port().send(&media(6), address(1));
        line.port().send(&media(7), address(1));
        line.port().send(&media(7), address(1));
        let sample = Sample {
            measure: Measure::PacketOut,
            took: Duration::ZERO,
            transport: Some(Transport::WebRtc),
            source: Source::Reported,
        };
        assert_eq!(*samples.lock().unwrap(), [sample]);
        let sent = line.meter().take_sent().map(|(position, _)| position);
        assert_eq!(sent, Some(Duration::ZERO));
        assert_eq!(line.meter().take_sent(), None, "it is told once");
    }

    #[tokio::test]
    async fn a_check_with_another_signature_opens_nothing() {
        let (mux, now) = (mux(), clock::now());
        let line = connect(&mux, "ann", now);
        let forged = stun::check([7; 12], "ann", "they", "another password");
        let later = now + Duration::from_secs(1);
        mux.dispatch(&forged, address(1), later);
        mux.dispatch(&media(1), address(1), later);
        assert_eq!(received(&line), 0);
        assert_eq!(line.meter().last_heard(), now);
    }

    #[tokio::test]
    async fn a_call_is_known_by_two_names_until_its_restart_is_done() {
        let (mux, now) = (mux(), clock::now());
        let line = connect(&mux, "ann", now);
        mux.dispatch(&check("ann"), address(1), now);
        line.port().send(&[20; 30], address(1));
        assert_eq!(
            line.port().restart(credentials("they")),
            Some(Restart::Unchanged)
        );
        for _ in 0..10 {
            let remote = Credentials::random();
            let Some(Restart::Prepared { local, .. }) = line.port().restart(remote) else {
                panic!("not restarted");
            };
            let table = mux.table();
            assert!(table.by_name.contains_key("ann"));
            assert!(table.by_name.contains_key(&local.ufrag));
            assert_eq!(table.by_name.len(), 2);
        }
        let port = line.port();
        drop(line);
        assert!(mux.table().by_name.is_empty());
        assert_eq!(port.restart(credentials("another")), None);
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_is_too_strange(datagram: Vec<u8>) {
            if Kind::of(&datagram) == Some(Kind::Rtp) {
                sequence(&datagram);
            }
        }
    }
}
