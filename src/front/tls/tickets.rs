//! Session tickets: encrypts the state of a session, which the client keeps (RFC 5077, RFC 8446 §4.6.1).
//!
//! A ticket is the name of its key, a nonce, and the state under AES-256-GCM. The key changes every
//! [`LIFETIME`]; the one before stays valid for as long again. rustls has tickets of its own; these
//! have keys that an upgrade can hand over, so that the next process resumes the sessions of this one.

use std::fmt;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use parking_lot::Mutex;
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

/// Time after which the key changes. As in rustls: far below the 2^32 tickets for which a random nonce
/// is safe (NIST SP 800-38D §8.3).
const LIFETIME: Duration = Duration::from_secs(6 * 3600);
/// Length of the name of a key, as RFC 5077 §4 recommends.
const NAME: usize = 16;

/// A key to hand over.
#[derive(Clone, Serialize, Deserialize)]
pub struct TicketKey {
    name: [u8; NAME],
    secret: [u8; 32],
    /// Its age in seconds.
    age: u64,
}

impl fmt::Debug for TicketKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey")
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

/// The keys of the server, newest first: the current one and the one before.
#[derive(Debug)]
pub struct Tickets(Mutex<Vec<Key>>);

struct Key {
    name: [u8; NAME],
    secret: [u8; 32],
    cipher: RandomizedNonceKey,
    made: Instant,
}

impl fmt::Debug for Key {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Tickets {
    /// Tickets with a new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self, Unspecified> {
        let key = Key::random(Instant::now())?;
        Ok(Self(Mutex::new(vec![key])))
    }

    /// Tickets with the keys of the server whose place this one takes; a new one if there is none.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn with(keys: &[TicketKey]) -> Result<Self, Unspecified> {
        let now = Instant::now();
        let known = keys.iter().filter_map(|key| {
            let made = now.checked_sub(Duration::from_secs(key.age))?;
            Key::new(key.name, key.secret, made).ok()
        });
        let known: Vec<_> = known.collect();
        match known.is_empty() {
            true => Self::new(),
            false => Ok(Self(Mutex::new(known))),
        }
    }

    /// The keys, for the server that takes this one's place.
    pub fn keys(&self) -> Vec<TicketKey> {
        let keys = self.0.lock();
        let known = keys.iter().map(|key| TicketKey {
            name: key.name,
            secret: key.secret,
            age: key.made.elapsed().as_secs(),
        });
        known.collect()
    }

    fn seal(&self, plain: &[u8], now: Instant) -> Result<Vec<u8>, Unspecified> {
        let mut keys = self.0.lock();
        let current = keys.first().ok_or(Unspecified)?;
        if now.saturating_duration_since(current.made) >= LIFETIME {
            keys.insert(0, Key::random(now)?);
            keys.truncate(2);
        }
        let current = keys.first().ok_or(Unspecified)?;
        let mut state = plain.to_vec();
        let nonce = current
            .cipher
            .seal_in_place_append_tag(Aad::from(current.name), &mut state)?;
        let mut ticket = current.name.to_vec();
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&state);
        Ok(ticket)
    }

    fn open(&self, ticket: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, state) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.0.lock();
        let key = keys.iter().find(|key| key.name == name)?;
        if now.saturating_duration_since(key.made) >= 2 * LIFETIME {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut state = state.to_vec();
        let plain = key
            .cipher
            .open_in_place(nonce, Aad::from(key.name), &mut state);
        let length = plain.ok()?.len();
        state.truncate(length);
        Some(state)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, Instant::now()).ok()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, Instant::now())
    }
}

impl Key {
    fn new(name: [u8; NAME], secret: [u8; 32], made: Instant) -> Result<Self, Unspecified> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &secret)?;
        Ok(Self {
            name,
            secret,
            cipher,
            made,
        })
    }

    fn random(made: Instant) -> Result<Self, Unspecified> {
        let (mut name, mut secret) = ([0; NAME], [0; 32]);
        rand::fill(&mut name)?;
        rand::fill(&mut secret)?;
        Self::new(name, secret, made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_with_the_keys_of_its_server_or_of_one_that_took_them_over() {
        let tickets = Tickets::new().unwrap();
        let ticket = tickets.encrypt(b"state").unwrap();
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"state");
        let text = serde_json::to_string(&tickets.keys()).unwrap();
        let successor = Tickets::with(&serde_json::from_str::<Vec<_>>(&text).unwrap()).unwrap();
        assert_eq!(successor.decrypt(&ticket).unwrap(), b"state");
        assert!(Tickets::new().unwrap().decrypt(&ticket).is_none());
        let without = Tickets::with(&[]).unwrap();
        assert!(without.decrypt(&ticket).is_none());
    }

    #[test]
    fn a_ticket_that_was_changed_or_cut_does_not_open() {
        let tickets = Tickets::new().unwrap();
        let ticket = tickets.encrypt(b"state").unwrap();
        assert_ne!(ticket, tickets.encrypt(b"state").unwrap());
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert!(tickets.decrypt(&changed).is_none(), "{at}");
            assert!(tickets.decrypt(&ticket[..at]).is_none(), "{at}");
        }
    }

    #[test]
    fn a_key_is_used_for_six_hours_and_opens_for_six_more() {
        let tickets = Tickets::new().unwrap();
        let start = Instant::now();
        let at = |hours: f64| start + Duration::from_secs_f64(hours * 3600.0);
        let first = tickets.seal(b"first", at(0.0)).unwrap();
        let same = tickets.seal(b"same", at(5.9)).unwrap();
        assert_eq!(first[..NAME], same[..NAME]);
        let second = tickets.seal(b"second", at(6.1)).unwrap();
        assert_ne!(first[..NAME], second[..NAME]);
        assert_eq!(tickets.open(&first, at(11.9)).unwrap(), b"first");
        assert!(tickets.open(&first, at(12.1)).is_none());
        assert_eq!(tickets.open(&second, at(12.1)).unwrap(), b"second");
        let third = tickets.seal(b"third", at(12.2)).unwrap();
        assert!(tickets.open(&first, at(12.2)).is_none());
        assert_eq!(tickets.open(&third, at(12.2)).unwrap(), b"third");
    }
}
