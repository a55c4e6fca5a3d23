//! nginx's configuration: a site, or a whole `nginx.conf` with its includes.
//!
//! 1. [`lexer`] and [`tree`] give all directives with their places, by nginx's own rules.

mod glob;
mod lexer;
pub mod tree;
