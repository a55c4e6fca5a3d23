//! Values of `%(name)s` in an option: facts of its program, and variables.

use super::Meaning;
use crate::config::foreign::supervisord::reader::{expand, pairs};

impl Meaning<'_> {
    /// The value of an item with its expansions, for the process of this index.
    pub(super) fn expanded(&self, at: usize, index: usize) -> Result<String, String> {
        let item = &self.items[at];
        let section = &*item.section;
        let program = section.split_once(':').map_or("", |(_, name)| name.trim());
        let plain = |key: &str| self.find(section, key).map(|at| &*self.items[at].value);
        let known = |name: &str| match name {
            "here" => Some(item.here.clone()),
            "program_name" => Some(program.to_owned()),
            "group_name" => Some(self.group_of(program)),
            "process_num" => Some((self.first_number(section) + index).to_string()),
            "numprocs" => Some(plain("numprocs").unwrap_or("1").to_owned()),
            "host_node_name" => Some(self.around.hostname.clone()),
            name => {
                let name = name.strip_prefix("ENV_")?;
                self.variable_of(section, &item.key, name)
            }
        };
        expand(&item.value, &known).map(|value| value.trim().to_owned())
    }

    /// The value of a variable that an option of this name in a section may have: that of the section itself, of
    /// `[supervisord]`, or of the environment.
    fn variable_of(&self, section: &str, key: &str, name: &str) -> Option<String> {
        let sections = match (section, key) {
            // A list of variables is read by itself.
            ("supervisord", "environment") => &[][..],
            (_, "environment") => &["supervisord"][..],
            _ => &[section, "supervisord"][..],
        };
        let mut given = sections.iter().flat_map(|section| {
            let pairs = self.pairs_of(section).into_iter();
            pairs.rev()
        });
        let given = given.find(|(given, _)| given == name);
        given
            .map(|(_, value)| value)
            .or_else(|| self.around.environment.raw(name))
    }

    /// The group of a program: that of its own name, unless a `[group:…]` has it.
    fn group_of(&self, program: &str) -> String {
        let mut groups = self.names.iter().filter_map(|section| {
            let name = section.strip_prefix("group:")?;
            let programs = &self.items[self.given(section, "programs")?].value;
            let mut programs = programs.split(',').map(str::trim);
            programs
                .any(|own| own == program)
                .then(|| name.trim().to_owned())
        });
        groups.next().unwrap_or_else(|| program.to_owned())
    }

    /// The number of the first process of a program.
    pub(super) fn first_number(&self, section: &str) -> usize {
        let given = self.find(section, "numprocs_start");
        given
            .and_then(|at| self.items[at].value.parse().ok())
            .unwrap_or_default()
    }

    /// The variables of a section, as far as they can be read.
    pub(super) fn pairs_of(&self, section: &str) -> Vec<(String, String)> {
        let value = self
            .given(section, "environment")
            .and_then(|at| self.expanded(at, 0).ok());
        value
            .and_then(|value| pairs(&value).ok())
            .unwrap_or_default()
    }
}
