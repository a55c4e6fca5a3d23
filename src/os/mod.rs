//! Thin safe wrappers over the operating system: the only folder of `src/` with `unsafe`.
//!
//! Nothing here decides anything; it gives the rest of the program values and errors.

pub mod access;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod cpu_group;
pub mod descriptors;
pub mod doorbell;
pub mod files;
pub mod futex;
pub mod handover;
pub mod identity;
pub mod idle_cpus;
pub mod inotify;
pub mod key_files;
pub mod key_reader;
pub mod listening;
pub mod log_file;
pub mod memory;
pub mod memory_group;
pub mod own_program;
pub mod pidfile;
pub mod process;
mod process_stat;
pub mod process_tree;
pub mod scheduling;
pub mod sealed_bytes;
pub mod search_path;
pub mod sendfile;
pub mod service_manager;
pub mod settings_file;
pub mod signals;
pub mod sockets;
pub mod standard;
pub mod temporary;
pub mod terminal;
pub mod trusted_path;
pub mod unix_listener;
