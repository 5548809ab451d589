//! Collects the variables: from the process, and in development from a `.env` file.

use std::{collections::BTreeMap, env, ffi::OsString, io, path::Path};

use super::{
    names::is_ours, problems::Problems, refusal::Refusal, regular_file::read_regular_text,
};

/// The variables found, by name.
pub(super) type Texts = BTreeMap<String, String>;

/// The environment of the process, completed by `.env` in the working directory.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
pub(super) fn from_env(problems: &mut Problems) -> Texts {
    from_process_and_file(env::vars_os(), Path::new(".env"), problems)
}

/// A variable of the process wins over one of the file. The file is for development: it is not read when
/// the process sets another profile.
fn from_process_and_file(
    process: impl Iterator<Item = (OsString, OsString)>,
    file: &Path,
    problems: &mut Problems,
) -> Texts {
    let mut texts = Texts::new();
    for (name, value) in process {
        let Some(name) = name.to_str().filter(|name| is_ours(name)) else {
            continue;
        };
        match value.into_string() {
            Ok(value) => drop(texts.insert(name.to_owned(), value)),
            Err(_) => {
                problems.add(name, Refusal::new("it is not UTF-8", "use UTF-8 text"));
            }
        }
    }
    let profile = texts
        .get("COUNTERSIGN_PROFILE")
        .map_or("", |text| text.trim());
    if matches!(profile, "" | "development") {
        for (name, value) in from_file(file, problems) {
            let given = texts.entry(name).or_default();
            if given.trim().is_empty() {
                *given = value;
            }
        }
    }
    texts
}

/// The variables in a `.env` file; none when there is no file.
fn from_file(path: &Path, problems: &mut Problems) -> Vec<(String, String)> {
    let mut refuse = |wrong: String| {
        let hint = "write lines of the form NAME=value, with values that have spaces or $ in them in \
                    single quotes";
        problems.add(path.display().to_string(), Refusal::new(wrong, hint));
    };
    let text = match read_regular_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            refuse(format!("it cannot be read ({error})"));
            return Vec::new();
        }
    };
    let text = text.trim_start_matches('\u{feff}');
    let mut found: Vec<(String, String)> = Vec::new();
    for entry in dotenvy::from_read_iter(text.as_bytes()) {
        match entry {
            Ok((name, value)) if is_ours(&name) => found.push((name, value)),
            Ok(_) => {}
            // The error repeats the line, which may hold a secret: report only its number.
            Err(dotenvy::Error::LineParse(line, _)) => {
                let number = text
                    .lines()
                    .position(|l| l.trim() == line.trim())
                    .map_or(0, |n| n + 1);
                refuse(format!("line {number} is malformed"));
            }
            Err(_) => refuse("it is malformed".to_owned()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn gather(process: &[(&str, &str)], file: &str) -> Result<Texts, String> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".env");
        std::fs::write(&path, file).unwrap();
        let process = process
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        let mut problems = Problems::default();
        let texts = from_process_and_file(process, &path, &mut problems);
        problems
            .into_result(texts)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_variable_of_the_process_wins_over_the_file() {
        let texts = gather(
            &[
                ("COUNTERSIGN_LOG", "warn"),
                ("COUNTERSIGN_ISSUER", " "),
                ("PATH", "/bin"),
            ],
            "\u{feff}# a comment\nCOUNTERSIGN_LOG=debug\nexport COUNTERSIGN_TLS='off'\n\nHOME=/x\n\
             COUNTERSIGN_ISSUER=http://a\nOTEL_SERVICE_NAME=auth",
        )
        .unwrap();
        let texts: Vec<_> = texts
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            texts,
            [
                ("COUNTERSIGN_ISSUER", "http://a"),
                ("COUNTERSIGN_LOG", "warn"),
                ("COUNTERSIGN_TLS", "off"),
                ("OTEL_SERVICE_NAME", "auth"),
            ]
        );
    }

    #[test]
    fn the_file_is_read_in_development_only() {
        for (profile, read) in [
            ("", true),
            ("development", true),
            ("test", false),
            ("production", false),
        ] {
            let texts =
                gather(&[("COUNTERSIGN_PROFILE", profile)], "COUNTERSIGN_LOG=debug").unwrap();
            assert_eq!(texts.contains_key("COUNTERSIGN_LOG"), read, "{profile}");
        }
    }

    #[test]
    fn a_malformed_line_is_reported_by_its_number_only() {
        let error = gather(
            &[],
            "COUNTERSIGN_LOG=info\n\nCOUNTERSIGN_MASTER_KEYS='hunter2",
        )
        .unwrap_err();
        assert!(error.contains("line 3 is malformed"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_missing_file_is_fine_and_an_unreadable_one_is_not() {
        let mut problems = Problems::default();
        assert!(from_file(Path::new("/nonexistent/.env"), &mut problems).is_empty());
        assert!(problems.into_result(()).is_ok());
        let mut problems = Problems::default();
        let directory = tempfile::tempdir().unwrap();
        from_file(directory.path(), &mut problems);
        assert!(problems.into_result(()).is_err());
    }

    #[test]
    fn only_our_own_variables_have_to_be_utf8() {
        let broken = || OsString::from_vec(vec![0xff]);
        let process = [
            ("OTHER".into(), broken()),
            ("COUNTERSIGN_LOG".into(), broken()),
        ];
        let mut problems = Problems::default();
        from_process_and_file(
            process.into_iter(),
            Path::new("/nonexistent/.env"),
            &mut problems,
        );
        let error = problems.into_result(()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "COUNTERSIGN_LOG: it is not UTF-8; use UTF-8 text"
        );
    }
}
