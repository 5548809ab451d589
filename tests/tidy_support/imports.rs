//! Which file of a crate imports from which, and where these imports form a cycle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Source, split_uses};

type ModulePath = Vec<String>;

/// The imports between files. Names that a `mod.rs` exports again count as imports from the file that declares them.
pub struct Imports {
    edges: BTreeMap<String, BTreeSet<String>>,
}

struct Modules {
    files: BTreeMap<ModulePath, String>,
    reexports: BTreeMap<(ModulePath, String), ModulePath>,
}

impl Imports {
    /// Reads the `use` items of `sources`, without their unit tests. `root` is the folder of the crate's first file.
    pub fn of(root: &str, sources: &[Source]) -> Self {
        let sources: Vec<_> = sources
            .iter()
            .filter(|source| !source.path.contains("tests"))
            .collect();
        let mut modules = Modules {
            files: sources
                .iter()
                .map(|source| (module_path(root, &source.path), source.path.clone()))
                .collect(),
            reexports: BTreeMap::new(),
        };
        let uses: Vec<_> = sources
            .iter()
            .flat_map(|source| {
                let own = module_path(root, &source.path);
                let modules = &modules;
                let code = before_tests(&source.code);
                split_uses(code)
                    .into_iter()
                    .filter_map(move |(is_public, path)| {
                        let absolute = modules.absolute(&own, path)?;
                        Some((*source, own.clone(), is_public, absolute))
                    })
            })
            .collect();
        for (source, own, is_public, path) in &uses {
            if *is_public && is_folder(source) {
                let name = path.last().cloned().unwrap_or_default();
                modules.reexports.insert((own.clone(), name), path.clone());
            }
        }
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (source, _, is_public, path) in uses {
            let is_reexport = is_public && is_folder(source);
            if let Some(file) = modules.file_of(&path, 0)
                && !is_reexport
                && *file != source.path
            {
                let targets = edges.entry(source.path.clone()).or_default();
                targets.insert(file.clone());
            }
        }
        Self { edges }
    }

    /// Whether no file imports from another: nothing was read.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// The shortest cycle through each file that is on one: `a -> b -> a`.
    pub fn cycles(&self) -> BTreeSet<String> {
        let starts = self.edges.keys();
        let cycles = starts.filter_map(|start| self.cycle_through(start));
        cycles
            .map(|mut files| {
                // The same cycle from wherever it was entered.
                let first = (0..files.len()).min_by_key(|&at| &files[at]).unwrap_or(0);
                files.rotate_left(first);
                files.push(files[0].clone());
                files.join(" -> ")
            })
            .collect()
    }

    fn cycle_through(&self, start: &str) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut left = VecDeque::from([start]);
        while let Some(file) = left.pop_front() {
            for next in self.edges.get(file).into_iter().flatten() {
                if next == start {
                    let mut files = vec![file.to_owned()];
                    let mut at = file;
                    while at != start {
                        at = came_from[at];
                        files.push(at.to_owned());
                    }
                    files.reverse();
                    return Some(files);
                }
                if !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, file);
                    left.push_back(next);
                }
            }
        }
        None
    }
}

impl Modules {
    /// The path from the root of the crate; `None` for another crate.
    fn absolute(&self, own: &[String], path: Vec<String>) -> Option<ModulePath> {
        let mut parts = path.into_iter().peekable();
        let mut absolute = match parts.peek()?.as_str() {
            "crate" => Vec::new(),
            "super" | "self" => own.to_vec(),
            child => {
                let mut inner = own.to_vec();
                inner.push(child.to_owned());
                self.files.contains_key(&inner).then(|| own.to_vec())?
            }
        };
        for part in parts {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(absolute.pop()),
                _ => absolute.push(part),
            }
        }
        Some(absolute)
    }

    /// The file that declares what `path` names.
    fn file_of(&self, path: &[String], depth: usize) -> Option<&String> {
        let length = (0..=path.len())
            .rev()
            .find(|&length| self.files.contains_key(&path[..length]))?;
        let module = path[..length].to_vec();
        let reexport = path
            .get(length)
            .and_then(|name| self.reexports.get(&(module.clone(), name.clone())));
        match reexport {
            Some(target) if depth < 5 => self.file_of(target, depth + 1),
            _ => self.files.get(&module),
        }
    }
}

/// Whether what the file exports again is declared below it.
fn is_folder(source: &Source) -> bool {
    source.path.ends_with("/mod.rs") || source.path.ends_with("/lib.rs")
}

/// `src/store/mod.rs` is `store`, `src/store/connections/pool.rs` is `store::connections::pool`, `src/lib.rs` is the root.
fn module_path(root: &str, file: &str) -> ModulePath {
    let path = file.strip_prefix(root).unwrap_or(file);
    let path = path.trim_start_matches('/').trim_end_matches(".rs");
    let path = path.trim_end_matches("/mod");
    if path == "lib" || path == "main" {
        return Vec::new();
    }
    path.split('/').map(str::to_owned).collect()
}

fn before_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests").next().unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, code: &str) -> Source {
        Source {
            path: path.to_owned(),
            text: code.to_owned(),
            code: code.to_owned(),
        }
    }

    #[test]
    fn an_import_cycle_through_re_exports_is_found() {
        let cycles = Imports::of(
            "src",
            &[
                source("src/a/mod.rs", "pub use one::One;\nmod one;\nmod two;"),
                source("src/a/one.rs", "use super::two::{Two, three};"),
                source("src/a/two.rs", "use std::fmt;\nuse crate::{a::One, b};"),
                source("src/b.rs", "use crate::c::C;"),
            ],
        )
        .cycles();
        assert_eq!(
            cycles.into_iter().collect::<Vec<_>>(),
            ["src/a/one.rs -> src/a/two.rs -> src/a/one.rs"]
        );
    }

    #[test]
    fn imports_of_tests_form_no_cycle() {
        let cycles = Imports::of(
            "src",
            &[
                source("src/a/mod.rs", "mod one;\nmod two;"),
                source("src/a/one.rs", "use super::two::Two;"),
                source(
                    "src/a/two.rs",
                    "#[cfg(test)]\nmod tests { use super::one::One; }",
                ),
            ],
        )
        .cycles();
        assert!(cycles.is_empty(), "{cycles:?}");
    }
}
