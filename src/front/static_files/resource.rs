//! One file, ready to be sent many times: its state, its header fields, its bytes if they are few,
//! and the encoded forms of it.
//!
//! Values only; `disk` makes them, `memory` keeps them, `compress` adds to them.

use std::sync::Arc;

use bytes::Bytes;

use super::headers;
use super::negotiate::{Accepted, Choice, Coding};
use super::representation::{Heads, OpenFile, Representation};
use super::sealed::Sealed;

/// One file and its encoded forms.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    /// The identity.
    pub(super) identity: Arc<Representation>,
    /// Its encoded forms, by [`Coding::index`].
    pub(super) encoded: [Option<Arc<Representation>>; 3],
    /// True if every file was old enough when it was read to trust its
    /// [`Stamp`](super::representation::Stamp): a write within the same tick of the clock has the
    /// same times.
    pub(super) is_settled: bool,
    /// The forms that compression in the background may still add, by [`Coding::index`].
    pub(super) compressible: [bool; 3],
}

impl Resource {
    /// The form that a client gets of the whole file.
    pub(super) fn choose(&self, accepted: &Accepted) -> &Arc<Representation> {
        let encoded = match accepted.choose(|coding| self.encoded[coding.index()].is_some()) {
            Choice::Identity => None,
            Choice::Encoded(coding) => self.encoded[coding.index()].as_ref(),
        };
        encoded.unwrap_or(&self.identity)
    }

    /// A copy with another form, made by compressing. `None`: it did not pay.
    pub(super) fn with_encoded(&self, coding: Coding, bytes: Option<Bytes>) -> Self {
        let mut resource = self.clone();
        resource.compressible[coding.index()] = false;
        resource.encoded[coding.index()] = bytes.map(|bytes| {
            let original = &*self.identity;
            let (bytes, sealed) = Sealed::keep(bytes);
            Arc::new(Representation {
                name: original.name.clone(),
                stamp: original.stamp,
                validators: original.validators.for_coding(coding),
                headers: headers::encoded(original, coding, bytes.len() as u64),
                length: bytes.len() as u64,
                bytes: Some(bytes),
                sealed,
                open: OpenFile::default(),
                heads: Heads::default(),
            })
        });
        resource
    }

    /// All forms.
    pub(super) fn forms(&self) -> impl Iterator<Item = &Arc<Representation>> {
        std::iter::once(&self.identity).chain(self.encoded.iter().flatten())
    }

    /// The codings that compression in the background may still add.
    pub(super) fn missing_codings(&self) -> impl Iterator<Item = Coding> {
        Coding::ALL
            .into_iter()
            .filter(|coding| self.compressible[coding.index()])
    }
}
