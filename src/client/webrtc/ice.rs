//! Where a call's datagrams go, and who may say so: ICE beyond what the WebRTC library does.
//!
//! The library makes the first connection. It never follows a second nomination, though, and drops
//! its pair at the start of an ICE restart, so that the sound would stop until there is a new one.
//! So from the moment a call is connected, STUN stays in here (the full agent of RFC 8445, in the
//! controlled role), and the library, which reads and writes for whatever address, sees none.
//!
//! **Invariants**
//! - Nothing is believed that is not signed by the client.
//! - The call's datagrams go to one address: the one that was nominated last of those that have
//!   answered a check of ours.
//! - An ICE restart changes nothing until an address is nominated in the new session.

use std::collections::VecDeque;
use std::net::SocketAddr;

use uuid::Uuid;

use crate::client::webrtc::stun::{self, Binding, Transaction};

/// Addresses of one call at a time: a phone changes networks, a NAT rebinds. One more, and the
/// oldest is forgotten until its next check.
pub(crate) const ADDRESSES: usize = 16;

/// One side's (RFC 8445, section 5.3).
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

impl Credentials {
    /// Returns credentials of ours.
    pub(crate) fn random() -> Self {
        Self {
            ufrag: Uuid::new_v4().simple().to_string()[..16].into(),
            password: Uuid::new_v4().simple().to_string(),
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.ufrag)
    }
}

#[derive(Debug)]
pub(crate) struct Ice {
    session: Session,
    /// What an ICE restart has prepared.
    next: Option<Session>,
    /// Known once the call is connected.
    peer: Option<SocketAddr>,
    /// Ours that are not answered, the oldest at the front; one for each session and address.
    checks: VecDeque<Check>,
}

/// An ICE session: what a restart replaces.
#[derive(Debug)]
struct Session {
    local: Credentials,
    remote: Credentials,
    /// Addresses that have answered a check.
    proven: VecDeque<SocketAddr>,
}

#[derive(Debug)]
struct Check {
    transaction: Transaction,
    /// Our name in its session.
    ufrag: String,
    to: SocketAddr,
    /// Whether the address is nominated, and only the answer is missing.
    nominated: bool,
}

/// What a STUN message of the client's leads to.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Reaction {
    /// For the address that it came from.
    pub(crate) replies: Vec<Vec<u8>>,
    /// Whether the library is to see it.
    pub(crate) pass_on: bool,
    /// Our name in a session that is over.
    pub(crate) retired: Option<String>,
}

/// What the client's credentials lead to.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Restart {
    /// They are those of the session that runs.
    Unchanged,
    /// A restart needs a connection to replace.
    Unconnected,
    /// There is a new session.
    Prepared {
        local: Credentials,
        /// Our name in one that was prepared before, and never used.
        retired: Option<String>,
    },
}

impl Ice {
    pub(crate) fn new(local: Credentials, remote: Credentials) -> Self {
        Self {
            session: Session::new(local, remote),
            next: None,
            peer: None,
            checks: VecDeque::new(),
        }
    }

    /// Our name in the session that began last.
    pub(crate) fn ufrag(&self) -> &str {
        &self.next.as_ref().unwrap_or(&self.session).local.ufrag
    }

    /// Takes a check; `None` if it is not the client's.
    pub(crate) fn handle_request(
        &mut self,
        request: &Binding<'_>,
        from: SocketAddr,
    ) -> Option<Reaction> {
        let (receiver, sender) = request.names?;
        let session = self.session(receiver)?;
        if session.remote.ufrag != sender || !request.is_signed_by(&session.local.password) {
            return None;
        }
        if self.peer.is_none() {
            return Some(Reaction::pass_on());
        }
        let password = &session.local.password;
        let mut replies = vec![stun::success(request.transaction, from, password)];
        let mut retired = None;
        if !session.proven.contains(&from) {
            replies.extend(self.check(receiver, from, request.nominates));
        } else if request.nominates {
            retired = self.nominate(receiver, from);
        }
        Some(Reaction {
            replies,
            retired,
            pass_on: false,
        })
    }

    /// Takes the answer to a check; `None` if it is not the client's.
    pub(crate) fn handle_success(
        &mut self,
        success: &Binding<'_>,
        from: SocketAddr,
    ) -> Option<Reaction> {
        if self.peer.is_none() {
            return Some(Reaction::pass_on());
        }
        let asked = |check: &Check| (check.transaction, check.to) == (success.transaction, from);
        let index = self.checks.iter().position(asked)?;
        let session = self.session(&self.checks[index].ufrag)?;
        if !success.is_signed_by(&session.remote.password) {
            return None;
        }
        let Check {
            ufrag, nominated, ..
        } = self.checks.remove(index)?;
        if let Some(session) = self.session_mut(&ufrag) {
            session.prove(from);
        }
        Some(Reaction {
            retired: nominated.then(|| self.nominate(&ufrag, from)).flatten(),
            ..Reaction::default()
        })
    }

    /// Returns where the library's datagram goes. The first one says that it has a pair.
    pub(crate) fn route(&mut self, to: SocketAddr) -> SocketAddr {
        *self.peer.get_or_insert_with(|| {
            self.session.prove(to);
            to
        })
    }

    /// Asks the peer whether it still agrees to what it is sent; `None` before it is known.
    pub(crate) fn keep_alive(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let peer = self.peer?;
        let ufrag = self.session.local.ufrag.clone();
        Some((peer, self.check(&ufrag, peer, false)?))
    }

    /// Begins a new session if these are new credentials of the client's. Asked again, it answers
    /// the same; `fresh` is for us, if need be.
    pub(crate) fn restart(&mut self, remote: Credentials, fresh: Credentials) -> Restart {
        if self.session.remote == remote {
            return Restart::Unchanged;
        }
        if self.peer.is_none() {
            return Restart::Unconnected;
        }
        if let Some(next) = self.next.as_ref().filter(|next| next.remote == remote) {
            return Restart::Prepared {
                local: next.local.clone(),
                retired: None,
            };
        }
        let unused = self.next.replace(Session::new(fresh.clone(), remote));
        Restart::Prepared {
            local: fresh,
            retired: unused.map(|session| self.retire(session)),
        }
    }

    /// Whether a restart is under way.
    pub(crate) fn is_restarting(&self) -> bool {
        self.next.is_some()
    }

    fn session(&self, ufrag: &str) -> Option<&Session> {
        let mut sessions = self.next.iter().chain([&self.session]);
        sessions.find(|session| session.local.ufrag == ufrag)
    }

    fn session_mut(&mut self, ufrag: &str) -> Option<&mut Session> {
        let mut sessions = self.next.iter_mut().chain([&mut self.session]);
        sessions.find(|session| session.local.ufrag == ufrag)
    }

    /// Writes a check of an address, which replaces an earlier one.
    fn check(&mut self, ufrag: &str, to: SocketAddr, mut nominated: bool) -> Option<Vec<u8>> {
        self.checks.retain(|check| {
            let same = check.to == to && check.ufrag == ufrag;
            nominated |= same && check.nominated;
            !same
        });
        if self.checks.len() == ADDRESSES {
            self.checks.pop_front();
        }
        let transaction = rand::random();
        self.checks.push_back(Check {
            transaction,
            ufrag: ufrag.into(),
            to,
            nominated,
        });
        let remote = &self.session(ufrag)?.remote;
        let check = stun::check(transaction, &remote.ufrag, ufrag, &remote.password);
        Some(check)
    }

    /// Moves the call to a proven address; returns our name in the session that this ends.
    fn nominate(&mut self, ufrag: &str, to: SocketAddr) -> Option<String> {
        if self.peer.replace(to) != Some(to) {
            tracing::debug!(%to, "Call moves");
        }
        let next = self.next.take_if(|next| next.local.ufrag == ufrag)?;
        let before = std::mem::replace(&mut self.session, next);
        Some(self.retire(before))
    }

    fn retire(&mut self, session: Session) -> String {
        let ufrag = session.local.ufrag;
        self.checks.retain(|check| check.ufrag != ufrag);
        ufrag
    }
}

impl Session {
    fn new(local: Credentials, remote: Credentials) -> Self {
        Self {
            local,
            remote,
            proven: VecDeque::new(),
        }
    }

    fn prove(&mut self, address: SocketAddr) {
        self.proven.retain(|proven| *proven != address);
        if self.proven.len() == ADDRESSES {
            self.proven.pop_front();
        }
        self.proven.push_back(address);
    }
}

impl Reaction {
    fn pass_on() -> Self {
        Self {
            pass_on: true,
            ..Self::default()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::client::webrtc::stun::Class;

    pub(crate) fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    pub(crate) fn credentials(name: &str) -> Credentials {
        Credentials {
            ufrag: name.into(),
            password: format!("{name}, and twenty-two more"),
        }
    }

    /// A call that is connected to port 1.
    fn connected() -> Ice {
        let mut ice = Ice::new(credentials("we"), credentials("they"));
        ice.route(address(1));
        ice
    }

    /// A check of the client's.
    fn asked(ice: &mut Ice, (we, they): (&str, &str), from: u16, nominates: bool) -> Option<Asked> {
        let mut check = stun::check([9; 12], we, they, &credentials(we).password);
        if nominates {
            check = stun::nominating([9; 12], we, they, &credentials(we).password);
        }
        let request = Binding::parse(&check).unwrap();
        let reaction = ice.handle_request(&request, address(from))?;
        let mut replies = reaction.replies.into_iter();
        let success = replies.next().unwrap();
        let success = Binding::parse(&success).unwrap();
        assert_eq!(success.class, Class::Success);
        assert!(success.is_signed_by(&credentials(we).password));
        Some(Asked {
            check: replies.next(),
            retired: reaction.retired,
        })
    }

    struct Asked {
        check: Option<Vec<u8>>,
        retired: Option<String>,
    }

    /// The client's answer to a check of ours.
    fn answered(ice: &mut Ice, check: &[u8], from: u16) -> Option<Reaction> {
        let request = Binding::parse(check).unwrap();
        let (they, _) = request.names.unwrap();
        let password = credentials(they).password;
        assert!(request.is_signed_by(&password));
        let success = stun::success(request.transaction, address(9), &password);
        ice.handle_success(&Binding::parse(&success).unwrap(), address(from))
    }

    const OURS: (&str, &str) = ("we", "they");
    const NEXT: (&str, &str) = ("we2", "they2");

    fn goes_to(ice: &mut Ice) -> SocketAddr {
        ice.route(address(1))
    }

    #[test]
    fn before_a_call_is_connected_the_library_sees_what_the_client_has_signed() {
        let mut ice = Ice::new(credentials("we"), credentials("they"));
        let check = stun::check([9; 12], "we", "they", &credentials("we").password);
        let request = Binding::parse(&check).unwrap();
        let reaction = ice.handle_request(&request, address(1));
        assert_eq!(reaction, Some(Reaction::pass_on()));
        assert_eq!(ice.keep_alive(), None);
    }

    #[test]
    fn what_is_signed_by_others_is_nothing() {
        let mut ice = connected();
        for (we, they, password) in [
            ("we", "they", "another"),
            ("we", "another", "we"),
            ("another", "they", "another"),
        ] {
            let check = stun::check([9; 12], we, they, &credentials(password).password);
            let request = Binding::parse(&check).unwrap();
            assert_eq!(ice.handle_request(&request, address(1)), None);
        }
        let (_, check) = ice.keep_alive().unwrap();
        let transaction = Binding::parse(&check).unwrap().transaction;
        let forged = stun::success(transaction, address(9), "another");
        let forged = Binding::parse(&forged).unwrap();
        assert_eq!(ice.handle_success(&forged, address(1)), None);
    }

    #[test]
    fn a_call_moves_to_a_nominated_address_once_it_has_answered() {
        let mut ice = connected();
        let check = asked(&mut ice, OURS, 2, true).unwrap().check.unwrap();
        assert_eq!(goes_to(&mut ice), address(1));
        // Not an answer from there.
        assert_eq!(answered(&mut ice, &check, 3), None);
        assert_eq!(goes_to(&mut ice), address(1));
        answered(&mut ice, &check, 2).unwrap();
        assert_eq!(goes_to(&mut ice), address(2));
        // And back, where nothing is left to be proven.
        assert_eq!(asked(&mut ice, OURS, 1, true).unwrap().check, None);
        assert_eq!(goes_to(&mut ice), address(1));
    }

    #[test]
    fn an_address_that_is_only_checked_changes_nothing() {
        let mut ice = connected();
        let check = asked(&mut ice, OURS, 2, false).unwrap().check.unwrap();
        answered(&mut ice, &check, 2).unwrap();
        assert_eq!(goes_to(&mut ice), address(1));
        asked(&mut ice, OURS, 2, true).unwrap();
        assert_eq!(goes_to(&mut ice), address(2));
    }

    #[test]
    fn a_nomination_is_not_lost_with_the_check_that_it_led_to() {
        let mut ice = connected();
        asked(&mut ice, OURS, 2, true).unwrap();
        let check = asked(&mut ice, OURS, 2, false).unwrap().check.unwrap();
        answered(&mut ice, &check, 2).unwrap();
        assert_eq!(goes_to(&mut ice), address(2));
    }

    #[test]
    fn after_a_restart_the_call_goes_on_as_before_until_the_new_session_is_used() {
        let mut ice = connected();
        let restart = ice.restart(credentials("they2"), credentials("we2"));
        let prepared = Restart::Prepared {
            local: credentials("we2"),
            retired: None,
        };
        assert_eq!(restart, prepared);
        // Asked again, it is the same.
        let again = ice.restart(credentials("they2"), credentials("other"));
        assert_eq!(again, prepared);
        assert_eq!(ice.ufrag(), "we2");

        assert!(asked(&mut ice, OURS, 1, true).is_some());
        assert_eq!(goes_to(&mut ice), address(1));

        let check = asked(&mut ice, NEXT, 2, true).unwrap().check.unwrap();
        assert_eq!(goes_to(&mut ice), address(1));
        let reaction = answered(&mut ice, &check, 2).unwrap();
        assert_eq!(reaction.retired.as_deref(), Some("we"));
        assert_eq!(goes_to(&mut ice), address(2));
        assert!(asked(&mut ice, OURS, 1, true).is_none());
        assert_eq!(
            ice.restart(credentials("they2"), credentials("other")),
            Restart::Unchanged
        );
    }

    #[test]
    fn a_restart_at_the_same_address_proves_it_anew() {
        let mut ice = connected();
        ice.restart(credentials("they2"), credentials("we2"));
        let check = asked(&mut ice, NEXT, 1, false).unwrap().check.unwrap();
        answered(&mut ice, &check, 1).unwrap();
        let asked = asked(&mut ice, NEXT, 1, true).unwrap();
        assert_eq!(asked.retired.as_deref(), Some("we"));
    }

    #[test]
    fn of_several_restarts_the_last_one_counts() {
        let mut ice = connected();
        ice.restart(credentials("they1"), credentials("we1"));
        let restart = ice.restart(credentials("they2"), credentials("we2"));
        let Restart::Prepared { retired, .. } = restart else {
            panic!("{restart:?}");
        };
        assert_eq!(retired.as_deref(), Some("we1"));
        assert!(asked(&mut ice, ("we1", "they1"), 2, true).is_none());
        assert!(asked(&mut ice, OURS, 1, true).is_some());
        assert!(asked(&mut ice, NEXT, 1, true).is_some());
    }

    #[test]
    fn a_call_that_is_not_connected_cannot_restart() {
        let mut ice = Ice::new(credentials("we"), credentials("they"));
        let restart = ice.restart(credentials("they2"), credentials("we2"));
        assert_eq!(restart, Restart::Unconnected);
        let same = ice.restart(credentials("they"), credentials("we2"));
        assert_eq!(same, Restart::Unchanged);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ice = connected();
        for port in 2..1000 {
            let check = asked(&mut ice, OURS, port, false).unwrap().check.unwrap();
            assert!(ice.checks.len() <= ADDRESSES);
            if port % 2 == 0 {
                answered(&mut ice, &check, port).unwrap();
            }
            assert!(ice.session.proven.len() <= ADDRESSES);
        }
    }
}
