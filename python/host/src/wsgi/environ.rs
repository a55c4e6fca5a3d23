//! The environ of a request.
//!
//! PEP 3333, "environ Variables". A template holds the constant entries, and placeholders for those
//! that the front always sends, so that a copy of it has its final size; each request gets a copy
//! and fills it in. Keys are created once and cached.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyserve_wire::vars;

use super::file_wrapper::FileWrapper;
use crate::ffi;

/// Most cached keys; more are created for each request, because clients choose the names of
/// headers.
const KEPT_KEYS: usize = 512;

/// Variables that the front sends with every request, with their placeholders.
const ALWAYS: [(&str, &str); 12] = [
    ("REQUEST_METHOD", "GET"),
    ("SCRIPT_NAME", ""),
    ("PATH_INFO", ""),
    ("QUERY_STRING", ""),
    ("REQUEST_URI", ""),
    ("RAW_URI", ""),
    ("SERVER_PROTOCOL", "HTTP/1.1"),
    ("SERVER_NAME", "localhost"),
    ("SERVER_PORT", "80"),
    ("REMOTE_ADDR", ""),
    ("REMOTE_PORT", ""),
    ("REQUEST_SCHEME", "http"),
];

/// Facts about the server for the `wsgi.*` keys.
pub struct ServerFacts<'a> {
    /// True with several threads in this process.
    pub is_multithread: bool,
    /// True with several processes.
    pub is_multiprocess: bool,
    /// Version of pyserve.
    pub version: &'a str,
}

/// Builds environs; one per thread.
pub struct Environs {
    template: Py<PyDict>,
    keys: HashMap<Box<[u8]>, Py<PyString>, BuildHasherDefault<KeyHasher>>,
    url_scheme: Py<PyString>,
    http: Py<PyString>,
    https: Py<PyString>,
    input: Py<PyString>,
    errors: Py<PyString>,
}

/// An environ, and the facts about the request that the server itself needs.
pub struct Environ<'py> {
    /// The dictionary for the application.
    pub dict: Bound<'py, PyDict>,
    /// True if the method is HEAD.
    pub is_head: bool,
}

impl Environs {
    /// Creates the template.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn new(py: Python<'_>, facts: &ServerFacts<'_>) -> PyResult<Self> {
        let template = PyDict::new(py);
        for (key, value) in ALWAYS {
            template.set_item(PyString::intern(py, key), value)?;
        }
        let intern = |name: &str| PyString::intern(py, name);
        template.set_item(
            intern("SERVER_SOFTWARE"),
            format!("pyserve/{}", facts.version),
        )?;
        template.set_item(intern("wsgi.version"), (1, 0))?;
        template.set_item(intern("wsgi.url_scheme"), "http")?;
        template.set_item(intern("wsgi.input"), py.None())?;
        template.set_item(intern("wsgi.errors"), py.None())?;
        template.set_item(intern("wsgi.multithread"), facts.is_multithread)?;
        template.set_item(intern("wsgi.multiprocess"), facts.is_multiprocess)?;
        template.set_item(intern("wsgi.run_once"), false)?;
        template.set_item(intern("wsgi.input_terminated"), true)?;
        template.set_item(intern("wsgi.file_wrapper"), py.get_type::<FileWrapper>())?;
        Ok(Self {
            template: template.unbind(),
            keys: HashMap::default(),
            url_scheme: intern("wsgi.url_scheme").unbind(),
            http: intern("http").unbind(),
            https: intern("https").unbind(),
            input: intern("wsgi.input").unbind(),
            errors: intern("wsgi.errors").unbind(),
        })
    }

    /// The environ of one request.
    ///
    /// # Errors
    /// `ValueError` for a damaged variables block, `MemoryError`.
    pub fn build<'py>(
        &mut self,
        py: Python<'py>,
        block: &[u8],
        input: &Bound<'py, PyAny>,
        errors: &Bound<'py, PyAny>,
    ) -> PyResult<Environ<'py>> {
        let dict = self.template.bind(py).copy()?;
        let mut is_head = false;
        for pair in vars::pairs(block) {
            let (key, value) =
                pair.map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
            match key {
                b"REQUEST_METHOD" => is_head = value == b"HEAD",
                b"REQUEST_SCHEME" => {
                    let scheme = if value == b"https" {
                        &self.https
                    } else {
                        &self.http
                    };
                    dict.set_item(&self.url_scheme, scheme)?;
                }
                _ => {}
            }
            dict.set_item(self.key(py, key)?, ffi::latin1(py, value)?)?;
        }
        dict.set_item(&self.input, input)?;
        dict.set_item(&self.errors, errors)?;
        Ok(Environ { dict, is_head })
    }

    fn key<'py>(&mut self, py: Python<'py>, key: &[u8]) -> PyResult<Bound<'py, PyString>> {
        if let Some(known) = self.keys.get(key) {
            return Ok(known.bind(py).clone());
        }
        // Keys that are not cached are not interned either: interned strings may never be freed.
        let text = std::str::from_utf8(key).ok().filter(|text| text.is_ascii());
        let Some(text) = text.filter(|_| self.keys.len() < KEPT_KEYS) else {
            return ffi::latin1(py, key);
        };
        let made = PyString::intern(py, text);
        self.keys.insert(key.into(), made.clone().unbind());
        Ok(made)
    }
}

/// A multiply-and-rotate hash: the keys are short and their number is bounded, so a table that a
/// client fills with collisions costs little.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
        }
    }

    fn finish(&self) -> u64 {
        // The table uses the top and the bottom bits.
        self.0 ^ (self.0 >> 32)
    }
}
