//! Reads a new password: from the terminal without showing it, or from a pipe. Never from the arguments, which other users of
//! the machine can see.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Stdin, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::{domain::Password, secret::Secret};

/// More than the longest password takes in UTF-8.
const MAX_BYTES: u64 = 8_192;

/// Asks twice on a terminal; otherwise reads one line.
pub(super) fn read_password() -> Result<Password, String> {
    let input = io::stdin();
    let typed = if input.is_terminal() {
        let first = ask(&input, "Password: ")?;
        let second = ask(&input, "The same again: ")?;
        if first.expose() != second.expose() {
            return Err("the passwords differ".to_owned());
        }
        first
    } else {
        line(&mut input.lock())?
    };
    let parsed = Password::parse("password", typed.expose());
    parsed.map_err(|violation| format!("the password {}", violation.description))
}

fn ask(input: &Stdin, prompt: &str) -> Result<Secret<String>, String> {
    let failed = |error: io::Error| format!("cannot read from the terminal: {error}");
    let _silence = EchoOff::begin(input).map_err(failed)?;
    let mut output = io::stderr();
    write!(output, "{prompt}").map_err(failed)?;
    output.flush().map_err(failed)?;
    let typed = line(&mut input.lock());
    let _ = writeln!(output);
    typed
}

/// The first line, without its end.
fn line(input: &mut impl BufRead) -> Result<Secret<String>, String> {
    let mut text = String::new();
    let read = input.take(MAX_BYTES).read_line(&mut text);
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    let text = Secret::new(text);
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("cannot read the password: {error}")),
    }
}

/// Turns the echo of the terminal off until it is dropped.
struct EchoOff<'a> {
    input: &'a Stdin,
    before: Termios,
}

impl<'a> EchoOff<'a> {
    fn begin(input: &'a Stdin) -> io::Result<Self> {
        let before = tcgetattr(input)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(input, OptionalActions::Flush, &silent)?;
        Ok(Self { input, before })
    }
}

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.input, OptionalActions::Now, &self.before);
    }
}
