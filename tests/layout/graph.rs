//! The arrows between the modules of a crate: which file names which other one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module by its path, the crate's root left out.
pub type Module = Vec<String>;

/// The modules of a crate, with the modules that each one names in code outside its tests.
pub struct Graph {
    pub arrows: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    /// Reads all of `files`, which lie below `root`.
    pub fn of(root: &Path, files: &[PathBuf]) -> Self {
        let module = |file: &PathBuf| module_of(file.strip_prefix(root).expect("below the root"));
        let modules: BTreeSet<Module> = files.iter().map(module).collect();
        let mut arrows = BTreeMap::new();
        for file in files {
            if file.ends_with("tests.rs") || file.to_string_lossy().ends_with("_tests.rs") {
                continue;
            }
            let own = module(file);
            let text = std::fs::read_to_string(file).expect("a source file");
            let named: BTreeSet<Module> = paths(&text)
                .iter()
                .filter_map(|path| resolve(path, &own, &modules))
                // A module and those inside it are one unit.
                .filter(|other| !own.starts_with(other) && !other.starts_with(&own))
                .collect();
            arrows.insert(own, named);
        }
        Self { arrows }
    }

    /// The modules from which a way leads back to themselves, circle by circle.
    pub fn circles(&self) -> Vec<BTreeSet<&Module>> {
        let mut circles: Vec<BTreeSet<&Module>> = Vec::new();
        let reached: BTreeMap<&Module, BTreeSet<&Module>> = self
            .arrows
            .keys()
            .map(|from| (from, self.reached(from)))
            .collect();
        for (from, to) in &reached {
            if !to.contains(from) || circles.iter().any(|circle| circle.contains(from)) {
                continue;
            }
            let is_back = |other: &&&Module| {
                let back = reached.get(**other);
                back.is_some_and(|back| back.contains(from))
            };
            circles.push(to.iter().filter(is_back).copied().collect());
        }
        circles
    }

    fn reached<'a>(&'a self, from: &Module) -> BTreeSet<&'a Module> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&Module> = self.arrows.get(from).into_iter().flatten().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(self.arrows.get(module).into_iter().flatten());
            }
        }
        reached
    }
}

/// `front/body.rs` and `front/body/mod.rs` are both `front::body`.
fn module_of(file: &Path) -> Module {
    let path = file.with_extension("");
    let names = path.components();
    let mut names: Module = names
        .map(|name| name.as_os_str().to_string_lossy().into_owned())
        .collect();
    if names
        .last()
        .is_some_and(|last| matches!(&**last, "mod" | "lib"))
    {
        names.pop();
    }
    names
}

/// All paths in the code that begin with `crate`, `super` or `self`, groups taken apart.
fn paths(text: &str) -> Vec<Vec<String>> {
    let code: Vec<&str> = text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let code = code.join(" ");
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|char| char.is_alphanumeric() || matches!(char, '_' | ':')) {
                read_path(&code[at..], Vec::new(), &mut paths);
            }
        }
    }
    paths
}

/// Reads one path, or each of a group behind one; returns the length that was read.
fn read_path(text: &str, mut path: Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            while !text[at..].starts_with('}') {
                let skipped = text[at..].find(|char: char| !matches!(char, ' ' | ','));
                at += skipped.unwrap_or(0);
                if text[at..].starts_with('}') {
                    break;
                }
                let read = read_path(&text[at..], path.clone(), paths);
                at += read;
                let end = text[at..].find([',', '}', '{']).unwrap_or(text.len() - at);
                if read == 0 && end == 0 {
                    return at;
                }
                at += end;
            }
            return at + 1;
        }
        let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        if !name.is_empty() {
            path.push(name.to_owned());
            at += name.len();
        }
        if !text[at..].starts_with("::") || name.is_empty() {
            paths.push(path);
            return at;
        }
        at += 2;
    }
}

/// The module in which a path of `own` ends.
fn resolve(path: &[String], own: &Module, modules: &BTreeSet<Module>) -> Option<Module> {
    let mut target: Module = match &*path[0] {
        "crate" => Vec::new(),
        "self" => own.clone(),
        _ => own[..own.len().checked_sub(1)?].to_vec(),
    };
    for name in &path[1..] {
        match &**name {
            "super" => {
                target.pop();
            }
            _ => target.push(name.clone()),
        }
    }
    (0..=target.len())
        .rev()
        .map(|end| target[..end].to_vec())
        .find(|module| modules.contains(module))
}
