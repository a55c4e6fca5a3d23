//! Limits for clients: connections, rates, memory.

pub mod ask_again;
pub mod connections;
pub mod displacement;
pub mod handshakes;
pub mod in_hand;
pub mod memory_budget;
pub mod min_rate;
pub mod network;
pub mod rate_limit;
pub mod unsent_streams;
