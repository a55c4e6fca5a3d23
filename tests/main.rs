//! The integration tests: the real binary, real interpreters, bytes on real sockets.
//!
//! One module for each outside edge. What they share is in [`support`]; the applications
//! that they serve are in `tests/apps`, one behaviour each.

mod support;

mod accel;
mod admin;
mod broken_logs;
mod companions;
mod compression;
mod control;
mod deadlines;
mod django_files;
mod exhaustion;
mod express;
mod faults;
mod floods;
mod forwarded;
mod frameworks;
mod framing;
mod fuzz;
mod handed_over;
mod http;
mod http2_floods;
mod http_upstream;
mod identity;
mod internal;
mod large_files;
mod layout;
mod limits;
mod lingering;
mod locations;
mod logs;
mod memory_limit;
mod process;
mod proxy_protocol;
mod python_versions;
mod readme;
mod real_upstreams;
mod recycle;
mod refork;
mod reload;
mod settings;
mod slow_clients;
mod slow_disk;
mod static_files;
mod static_forms;
mod static_oracles;
mod static_policy;
mod static_ranges;
mod stop;
mod streaming;
mod terminal;
mod upstream_metrics;
mod uwsgi;
mod wsgi;
