# The commands of a developer's day; `just` lists them.

[private]
default:
    @just --list

# Build the binary
build:
    cargo build

# Serve the hello example, with reloads
run *ARGS:
    cargo run -- --dev --chdir python/examples --app hello.wsgi {{ARGS}}

# Run all tests, or those whose names contain NAME
test *NAME:
    cargo test --locked {{NAME}}

# Format and lint
lint:
    cargo fmt --all
    cargo clippy --locked --all-targets -- -D warnings
    PYO3_NO_PYTHON=1 cargo clippy --locked -p pyserve-wire -p pyserve-host --all-targets -- -D warnings

# Write the generated page of the manual
manual:
    UPDATE_MANUAL=1 cargo test --locked --lib manual

# Show the developers' documentation
doc:
    cargo doc --locked --no-deps --workspace --document-private-items --open

# Fuzz one target until it fails
fuzz TARGET:
    cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz -s none {{TARGET}}

# Compare with other servers
bench *ARGS:
    cargo build --release --locked
    python3 benches/compare.py {{ARGS}}

# Check licences, duplicates, origins and advisories of the crates
deny:
    cargo deny --locked check

# Everything that a change must pass
ci:
    .ci/run
