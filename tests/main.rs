//! The integration tests: the real binary, real interpreters, bytes on real sockets.
//!
//! One module for each outside edge. What they share is in [`support`]; the applications
//! that they serve are in `tests/apps`, one behaviour each.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a test may block and print"
)]

mod support;

mod accel;
mod access;
mod acme;
mod admin;
mod argv;
mod breakpoints;
mod broken_logs;
mod companions;
mod comparison;
mod compression;
mod control;
mod control_fifo;
mod cookies;
mod copies;
mod deadlines;
mod django_files;
mod elastic;
mod ends_of_processes;
mod exhaustion;
mod fairness;
mod fast_path;
mod faults;
mod floods;
mod foreign;
mod fork_safety;
mod forwarded;
mod frameworks;
mod framing;
mod fuzz;
mod greenlets;
mod half_close;
mod handed_over;
mod hostile;
mod http;
mod http2_clients;
mod http2_floods;
mod http2_malformed;
mod http_upstream;
mod identity;
mod idle_connections;
mod image;
mod init;
mod internal;
mod large_files;
mod large_files_change;
mod layout;
mod limits;
mod lingering;
mod listing;
mod liveness;
mod location_names;
mod location_scope;
mod locations;
mod logs;
mod maintenance;
mod manual;
mod mapped_files;
mod matrix;
mod memory_budget;
mod memory_limit;
mod native_paths;
mod nginx_counterparts;
mod no_content;
mod process;
mod process_limit;
mod proxy_protocol;
mod python_versions;
mod readme;
mod real_upstreams;
mod recycle;
mod refork;
mod release;
mod release_files;
mod reload;
mod response_rules;
mod scheduled_companions;
mod schema;
mod service_manager;
mod settings;
mod short_first;
mod signal_table;
mod signals;
mod slow_clients;
mod slow_disk;
mod slow_imports;
mod static_files;
mod static_forms;
mod static_oracles;
mod static_policy;
mod static_ranges;
mod sticky_upstreams;
mod stop;
mod stop_at_start;
mod streaming;
mod targets;
mod terminal;
mod titles;
mod tls;
mod truncated;
mod unread_responses;
mod upgrade;
mod upstream_health;
mod upstream_mapping;
mod upstream_metrics;
mod upstream_private;
mod upstream_tls;
mod uwsgi;
mod uwsgi_module;
mod wheel;
mod wsgi;
