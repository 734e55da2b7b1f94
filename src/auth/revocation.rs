//! Whom the operator has shut out, and until when.
//!
//! **Invariants**
//! - A revocation stands until it is lifted or has expired, over a restart too if there is a file.
//! - There is at most one of each subject, and a bounded number of all.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::auth::files::{self, FileError};
use crate::auth::grant::{Caller, Grant, device_digest};
use crate::auth::token::from_unix;
use crate::clock::unix;
use crate::core::ids::SessionId;
use crate::core::port::Fault;

/// The most revocations there may be.
const MAX_REVOCATIONS: usize = 10_000;
/// The longest part of a revocation, and the largest file of them.
const MAX_TEXT: usize = 500;
const MAX_FILE: u64 = 64 << 20;

/// Whom a revocation is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Subject {
    Tenant(String),
    User { tenant: String, user: String },
    Device { tenant: String, device: String },
    Session(SessionId),
}

impl Subject {
    /// Takes the parts of a request to the admin API: a tenant, one of its users, one of its
    /// devices, or a session.
    pub fn new(
        tenant: Option<String>,
        user: Option<String>,
        device: Option<String>,
        session: Option<String>,
    ) -> Result<Self, Fault> {
        for (param, part) in [
            ("tenant", &tenant),
            ("user", &user),
            ("device", &device),
            ("session", &session),
        ] {
            let fits = |part: &String| {
                (1..=MAX_TEXT).contains(&part.len()) && !part.contains(char::is_control)
            };
            if !part.as_ref().is_none_or(fits) {
                let message = format!("`{param}` must be 1 to {MAX_TEXT} bytes of plain text.");
                return Err(Fault::invalid("invalid_value", message).at(param));
            }
        }
        match (tenant, user, device, session) {
            (Some(tenant), None, None, None) => Ok(Self::Tenant(tenant)),
            (Some(tenant), Some(user), None, None) => Ok(Self::User { tenant, user }),
            (Some(tenant), None, Some(device), None) => Ok(Self::Device { tenant, device }),
            (None, None, None, Some(session)) => Ok(Self::Session(session.into())),
            _ => Err(Fault::invalid(
                "invalid_value",
                "Name one subject: a `tenant`; a `tenant` and its `user` or its `device`; or a \
                 `session`.",
            )),
        }
    }
}

/// Somebody who is shut out. As JSON it is flat, with the parts of its subject beside the rest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Row", into = "Row")]
pub struct Revocation {
    /// By which it is lifted: `rev_…`.
    pub id: String,
    pub subject: Subject,
    /// For the operator's own record; nobody else is told.
    pub reason: String,
    pub since: SystemTime,
    /// It stands until it is lifted, if `None`.
    pub expires: Option<SystemTime>,
}

impl Revocation {
    fn stands(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// Whose request or session it is that a revocation could be about.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    pub tenant: &'a str,
    pub user: Option<&'a str>,
    /// The digest of the device's name, as a [`Grant`] has it.
    pub device: Option<&'a str>,
    pub session: Option<&'a SessionId>,
}

impl<'a> Holder<'a> {
    pub fn of(grant: &'a Grant, session: Option<&'a SessionId>) -> Self {
        Self {
            tenant: &grant.tenant.id,
            user: grant.user.as_deref(),
            device: grant.device.as_deref(),
            session,
        }
    }
}

impl<'a> From<&'a Caller> for Holder<'a> {
    fn from(caller: &'a Caller) -> Self {
        match caller {
            Caller::Tenant(tenant) => Self {
                tenant: &tenant.id,
                user: None,
                device: None,
                session: None,
            },
            Caller::Client(grant) => Self::of(grant, None),
            Caller::Returning(grant, session) => Self::of(grant, Some(session)),
        }
    }
}

/// All revocations, by whom they are about; a device stands there by its digest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations(HashMap<Subject, Revocation>);

impl Revocations {
    /// Reads the file; if there is none it is made, which shows at once whether it can be.
    pub(crate) fn load(path: &Path, now: SystemTime) -> Result<Self, FileError> {
        let is_there = path.try_exists();
        if !is_there.map_err(|error| FileError::new(path, error))? {
            let none = Self::default();
            none.save(path, now)?;
            return Ok(none);
        }
        let text = files::read(path, MAX_FILE)?;
        let list: List = serde_json::from_str(&text).map_err(|error| FileError {
            line: Some(error.line()),
            ..FileError::new(path, format!("not a list of revocations: {error}"))
        })?;
        let all = list.revocations.into_iter();
        Ok(Self(
            all.map(|revocation| (key(&revocation.subject), revocation))
                .collect(),
        ))
    }

    pub(crate) fn save(&self, path: &Path, now: SystemTime) -> Result<(), FileError> {
        let list = List {
            revocations: self.list(now),
        };
        let text = serde_json::to_string_pretty(&list)
            .map_err(|error| FileError::new(path, format!("cannot be written: {error}")))?;
        files::write(path, &text)
    }

    /// Shuts somebody out; if they are already, says anew why and until when.
    pub(crate) fn add(
        &mut self,
        subject: Subject,
        reason: String,
        expires: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<Revocation, Fault> {
        if reason.len() > MAX_TEXT {
            let message = format!("The reason has more than {MAX_TEXT} bytes.");
            return Err(Fault::invalid("invalid_value", message).at("reason"));
        }
        if expires.is_some_and(|expires| expires <= now) {
            let message = "The revocation would have expired already.";
            return Err(Fault::invalid("invalid_value", message).at("expires_at"));
        }
        let key = key(&subject);
        if self.0.len() >= MAX_REVOCATIONS {
            self.0.retain(|_, revocation| revocation.stands(now));
        }
        let known = self.0.get(&key).filter(|known| known.stands(now));
        if known.is_none() && self.0.len() >= MAX_REVOCATIONS {
            return Err(Fault::invalid(
                "too_many_revocations",
                format!(
                    "There are {MAX_REVOCATIONS} revocations already, and that is the most: lift \
                     some, or revoke whole tenants."
                ),
            ));
        }
        let revocation = Revocation {
            id: known.map_or_else(new_id, |known| known.id.clone()),
            since: known.map_or(now, |known| known.since),
            subject,
            reason,
            expires,
        };
        self.0.insert(key, revocation.clone());
        Ok(revocation)
    }

    /// Takes a revocation back; `None` if there is none of this name.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Revocation> {
        let found = self.0.iter().find(|(_, revocation)| revocation.id == id);
        let key = found.map(|(key, _)| key.clone())?;
        self.0.remove(&key)
    }

    /// All that stand, the oldest first.
    pub(crate) fn list(&self, now: SystemTime) -> Vec<Revocation> {
        let all = self.0.values().filter(|revocation| revocation.stands(now));
        let mut list: Vec<_> = all.cloned().collect();
        list.sort_by(|one, other| (one.since, &one.id).cmp(&(other.since, &other.id)));
        list
    }

    /// Refuses whoever is shut out.
    pub(crate) fn check(&self, holder: Holder<'_>, now: SystemTime) -> Result<(), Fault> {
        let tenant = || holder.tenant.to_owned();
        let about = [
            Some((Subject::Tenant(tenant()), "tenant")),
            holder.user.map(|user| {
                let (tenant, user) = (tenant(), user.to_owned());
                (Subject::User { tenant, user }, "user")
            }),
            holder.device.map(|device| {
                let (tenant, device) = (tenant(), device.to_owned());
                (Subject::Device { tenant, device }, "device")
            }),
            holder
                .session
                .map(|session| (Subject::Session(session.clone()), "session")),
        ];
        for (subject, what) in about.into_iter().flatten() {
            if self.0.get(&subject).is_some_and(|found| found.stands(now)) {
                return Err(Fault::invalid(
                    "token_revoked",
                    format!("This relay's operator has revoked the access of this {what}."),
                ));
            }
        }
        Ok(())
    }
}

/// By what a subject is found: tokens know a device by its digest.
fn key(subject: &Subject) -> Subject {
    match subject {
        Subject::Device { tenant, device } => Subject::Device {
            tenant: tenant.clone(),
            device: device_digest(tenant, device),
        },
        Subject::Tenant(_) | Subject::User { .. } | Subject::Session(_) => subject.clone(),
    }
}

fn new_id() -> String {
    format!("rev_{}", uuid::Uuid::new_v4().simple())
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct List {
    revocations: Vec<Revocation>,
}

/// A revocation as it stands in the file and in the admin API.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    reason: String,
    created_at: u64,
    expires_at: Option<u64>,
}

impl From<Revocation> for Row {
    fn from(revocation: Revocation) -> Self {
        let [mut tenant, mut user, mut device, mut session] = [const { None }; 4];
        match revocation.subject {
            Subject::Tenant(id) => tenant = Some(id),
            Subject::User {
                tenant: id,
                user: name,
            } => (tenant, user) = (Some(id), Some(name)),
            Subject::Device {
                tenant: id,
                device: name,
            } => (tenant, device) = (Some(id), Some(name)),
            Subject::Session(id) => session = Some(id.as_str().to_owned()),
        }
        Self {
            id: revocation.id,
            tenant,
            user,
            device,
            session,
            reason: revocation.reason,
            created_at: unix(revocation.since),
            expires_at: revocation.expires.map(unix),
        }
    }
}

impl TryFrom<Row> for Revocation {
    type Error = String;

    fn try_from(row: Row) -> Result<Self, String> {
        let subject = Subject::new(row.tenant, row.user, row.device, row.session);
        Ok(Self {
            id: row.id,
            subject: subject.map_err(|fault| fault.message)?,
            reason: row.reason,
            since: from_unix(row.created_at),
            expires: row.expires_at.map(from_unix),
        })
    }
}
