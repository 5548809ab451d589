//! Reads the project's files for `tests/tidy.rs`: Rust code without comments and literals, protos, documents.

pub mod imports;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A Rust file.
pub struct Source {
    /// Its path from the root of the project, with forward slashes.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Its text with every comment, string and character replaced by blanks; line numbers stay the same.
    pub code: String,
}

/// A `struct` or `enum`.
pub struct Type {
    pub place: String,
    pub name: String,
    /// Derives and other attributes: everything since the previous item.
    pub attributes: String,
    /// Fields or variants.
    pub body: String,
}

impl Source {
    /// The layer it belongs to: its folder under `src/`, or the file's own name.
    pub fn layer(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = below.split('/').next().unwrap_or(below);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// `path:line` of each place where the code has `name` as whole words.
    pub fn lines_with(&self, name: &str) -> impl Iterator<Item = String> {
        let numbered = self.code.lines().enumerate();
        numbered
            .filter(move |(_, line)| mentions(line, name))
            .map(|(index, _)| format!("{}:{}", self.path, index + 1))
    }

    /// The first segment of every `crate::…` path, groups in braces included, each with its place.
    pub fn crate_paths(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (at, start) in self.code.match_indices("crate::") {
            if self.code[..at].ends_with(is_word) {
                continue;
            }
            let place = self.place(at);
            let rest = &self.code[at + start.len()..];
            let firsts = match rest.trim_start().strip_prefix('{') {
                Some(group) => first_segments(group),
                None => vec![word(rest)],
            };
            found.extend(firsts.into_iter().map(|first| (place.clone(), first)));
        }
        found
    }

    /// The types it declares.
    pub fn types(&self) -> Vec<Type> {
        let mut found = Vec::new();
        for keyword in ["struct ", "enum "] {
            for (at, _) in self.code.match_indices(keyword) {
                let rest = &self.code[at + keyword.len()..];
                if self.code[..at].ends_with(is_word) || word(rest).is_empty() {
                    continue;
                }
                let before = self.code[..at].rfind(['}', ';']).map_or(0, |end| end + 1);
                found.push(Type {
                    place: self.place(at),
                    name: word(rest),
                    attributes: self.code[before..at].to_owned(),
                    body: body(rest).to_owned(),
                });
            }
        }
        found
    }

    fn place(&self, at: usize) -> String {
        format!(
            "{}:{}",
            self.path,
            self.code[..at].matches('\n').count() + 1
        )
    }
}

/// Every Rust file under these folders (or these files), where they exist.
pub fn sources(roots: &[&str]) -> Vec<Source> {
    files(roots, "rs")
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is readable");
            let path = path.strip_prefix(root()).expect("it is in the project");
            let path = path.to_string_lossy().replace('\\', "/");
            let code = code_of(&text);
            Source { path, text, code }
        })
        .collect()
}

/// The text of a file of the project, which must be there.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{path} should be there: {error}"))
}

/// README.md and every page under docs/.
pub fn documents() -> Vec<String> {
    let pages = files(&["docs"], "md")
        .into_iter()
        .map(|path| fs::read_to_string(path).expect("a page is readable"));
    std::iter::once(read("README.md")).chain(pages).collect()
}

/// The names of all RPCs in `proto/`.
pub fn rpcs() -> Vec<String> {
    let protos = files(&["proto"], "proto");
    let texts = protos
        .into_iter()
        .map(|path| fs::read_to_string(path).expect("a proto is readable"));
    let rpcs: Vec<String> = texts
        .flat_map(|text| {
            let lines = text
                .lines()
                .filter_map(|line| line.trim_start().strip_prefix("rpc "));
            lines.map(word).collect::<Vec<_>>()
        })
        .collect();
    assert!(!rpcs.is_empty(), "no RPC was found in proto/");
    rpcs
}

/// The paths of all `use` items in this code, groups expanded, and whether each is exported again.
pub fn split_uses(code: &str) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("use ") {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + start.len()..];
        let item = &rest[..rest.find(';').unwrap_or(rest.len())];
        let line = code[..at].rsplit('\n').next().unwrap_or_default();
        let mut paths = Vec::new();
        expand(item, &[], &mut paths);
        found.extend(paths.into_iter().map(|path| (line.contains("pub"), path)));
    }
    found
}

/// Turns `a::{b, c::{d, e as f}}` into `a::b`, `a::c::d` and `a::c::e`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let mut depth = 0;
    let parts = tree.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let (head, group) = part.split_once('{').unwrap_or((part, ""));
        let head = head.split(" as ").next().unwrap_or(head);
        let mut path = prefix.to_vec();
        let words = head.split("::").map(str::trim);
        path.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
        match group.strip_suffix('}') {
            Some(group) => expand(group, &path, paths),
            None => paths.push(path),
        }
    }
}

/// Whether `text` has `name` in it with no further letter on either side.
pub fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].ends_with(is_word);
        let after = name.ends_with(is_word) && text[at + name.len()..].starts_with(is_word);
        !before && !after
    })
}

/// `ValidateToken` becomes `validate_token`.
pub fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(roots: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = roots.iter().map(|path| root().join(path)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder is readable");
            left.extend(entries.map(|entry| entry.expect("an entry is readable").path()));
        } else if path.is_file() && path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The word that `text` begins with.
fn word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

/// The first segments of the paths in `a::b, c::{d, e}, f}…`: `a`, `c`, `f`.
fn first_segments(group: &str) -> Vec<String> {
    let (mut depth, mut firsts, mut expected) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            c if is_word(c) && expected => {
                firsts.push(word(&group[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    firsts
}

/// The text from a type's name to the end of its declaration.
fn body(rest: &str) -> &str {
    let mut depth = 0;
    for (at, c) in rest.char_indices() {
        match c {
            '{' | '(' => depth += 1,
            '}' | ')' => depth -= 1,
            ';' if depth == 0 => return &rest[..at],
            _ => {}
        }
        if c == '}' && depth <= 0 {
            return &rest[..at];
        }
    }
    rest
}

/// Rust code with comments and literals replaced by blanks.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(is_word);
        let literal = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            quoted(rest)
        } else if first == 'r' && (!after_word || code.ends_with('b')) {
            raw_string(rest)
        } else if first == '\'' {
            character(rest)
        } else {
            0
        };
        let taken = if literal == 0 {
            first.len_utf8()
        } else {
            literal
        };
        if literal == 0 {
            code.push(first);
        } else {
            code.extend(
                rest[..taken]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
        }
        rest = &rest[taken..];
    }
    code
}

/// Length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of the string that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = true; // the opening quote does not close it
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw string that `text` begins with, or 0 when it is none.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let Some(content) = text[1 + hashes..].strip_prefix('"') else {
        return 0;
    };
    let end = format!("\"{}", "#".repeat(hashes));
    content
        .find(&end)
        .map_or(text.len(), |at| text.len() - content.len() + at + end.len())
}

/// Length of the character that `text` begins with, or 0 when it is a lifetime.
fn character(text: &str) -> usize {
    let content = &text[1..];
    if content.starts_with('\\') {
        return content[2..].find('\'').map_or(text.len(), |at| at + 4);
    }
    let one = content.chars().next().map_or(0, char::len_utf8);
    if content[one..].starts_with('\'') {
        one + 2
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(code: &str) -> Source {
        Source {
            path: "src/grpc/x.rs".to_owned(),
            text: code.to_owned(),
            code: code_of(code),
        }
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        let code = code_of(
            "a // tonic\n/* pb /* nested */ */ b \"http://tonic \\\" pb\" c r#\"tonic \" pb\"# d '\"' e '\\'' f<'tonic> br\"pb\" g",
        );
        for kept in ["a", "b", "c", "d", "e", "f<'tonic>", "g"] {
            assert!(code.contains(kept), "{kept} is gone from {code}");
        }
        assert_eq!(code.matches("tonic").count(), 1, "{code}");
        assert!(!code.contains("pb") && code.contains('\n'), "{code}");
    }

    #[test]
    fn use_items_are_expanded() {
        let uses =
            split_uses("use a::{b, c::{d, e as f}};\n    pub(super) use g::H;\nlet reuse = 1;");
        let shown: Vec<_> = uses
            .iter()
            .map(|(is_public, path)| (*is_public, path.join("::")))
            .collect();
        let own = |path: &str| (false, path.to_owned());
        let expected = [
            own("a::b"),
            own("a::c::d"),
            own("a::c::e"),
            (true, "g::H".to_owned()),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn whole_words_are_found() {
        assert!(mentions("use tonic::Status;", "tonic"));
        assert!(!mentions("use tonic_types::X; with_tonic()", "tonic"));
        assert!(mentions("std::env::var", "env::") && !mentions("my_env::var", "env::"));
        assert!(!mentions("env!(\"X\")", "env::"));
        let places: Vec<_> = source("a\npb::X\n").lines_with("pb").collect();
        assert_eq!(places, ["src/grpc/x.rs:2"]);
    }

    #[test]
    fn paths_are_found_alone_and_in_groups() {
        let code = "use crate::{store::{Store, User}, domain, auth::x};\ncrate::server::run(); pub(crate) fn f(); my_crate::x();";
        let used: Vec<_> = source(code).crate_paths();
        let used: Vec<_> = used
            .iter()
            .map(|(place, layer)| (place.as_str(), layer.as_str()))
            .collect();
        let (first, second) = ("src/grpc/x.rs:1", "src/grpc/x.rs:2");
        assert_eq!(
            used,
            [
                (first, "store"),
                (first, "domain"),
                (first, "auth"),
                (second, "server")
            ]
        );
        assert_eq!(source("").layer(), "grpc");
    }

    #[test]
    fn types_are_found_with_attributes_and_body() {
        let code = "fn f() {}\n#[derive(Serialize)]\npub struct Key { inner: Secret<u8> }\nstruct T(Secret<u8>);\nenum E { A }";
        let found = source(code).types();
        let named = |name: &str| {
            found
                .iter()
                .find(|item| item.name == name)
                .expect("it is found")
        };
        assert!(
            named("Key").attributes.contains("Serialize") && named("Key").body.contains("Secret<")
        );
        assert!(
            named("T").body.contains("Secret<") && !named("T").attributes.contains("Serialize")
        );
        assert!(!named("E").body.contains("Secret<"));
    }

    #[test]
    fn names_of_methods_are_snake_case() {
        assert_eq!(snake_case("ValidateToken"), "validate_token");
        assert_eq!(snake_case("GetJwks"), "get_jwks");
    }
}
