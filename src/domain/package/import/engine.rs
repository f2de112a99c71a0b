//! What `docker run` and `podman run` are told: the image, its variables and its arguments. Options that open something are
//! left out, and said.

use super::super::Source;
use super::Imported;
use crate::domain::quantity::Bytes;
use crate::domain::spec::MEMORY;

/// Options without a value, and the letters of those that may stand together: `-dit`.
const SWITCHES: [&str; 7] = ["--interactive", "--tty", "--rm", "--init", "--detach", "--quiet", "--read-only"];
const LETTERS: [char; 4] = ['i', 't', 'd', 'q'];

/// Options whose value has no meaning here.
const IGNORED: [&str; 3] = ["--name", "--pull", "--platform"];

/// Options that a template may say in its own way.
const LEFT_OUT: [&str; 21] = [
    "-v",
    "--volume",
    "--mount",
    "--tmpfs",
    "--network",
    "--net",
    "-p",
    "--publish",
    "--add-host",
    "-u",
    "--user",
    "-w",
    "--workdir",
    "-h",
    "--hostname",
    "-l",
    "--label",
    "--cpus",
    "--cap-drop",
    "--security-opt",
    "--restart",
];

/// Reads what stands behind the engine's name.
pub(super) fn read(name: &str, words: &[&str]) -> Result<Imported, String> {
    let words = words.strip_prefix(&["container"]).unwrap_or(words);
    let words = words.strip_prefix(&["run"]).ok_or("it starts a container engine for something else than 'run'")?;
    let mut words = words.iter().copied();
    let (mut variables, mut notes, mut memory_limit) = (Vec::new(), Vec::new(), None);
    let image = loop {
        let word = words.next().ok_or("it names no image")?;
        if word == "--" {
            break words.next().ok_or("it names no image")?;
        }
        if !word.starts_with('-') {
            break word;
        }
        let Some((flag, value)) = option(word) else { continue };
        let mut value = || value.or_else(|| words.next()).ok_or("it ends within an option");
        match flag.as_str() {
            flag if SWITCHES.contains(&flag) => {}
            flag if IGNORED.contains(&flag) => {
                value()?;
            }
            "-e" | "--env" => variables.push(value()?),
            "--env-file" => notes.push(format!("the variables in {} are left out; give them to the service", value()?)),
            "-m" | "--memory" => {
                let value = value()?;
                memory_limit = value.parse().ok().filter(|limit: &Bytes| MEMORY.contains(limit));
                if memory_limit.is_none() {
                    notes.push(left_out(flag.as_str(), value));
                }
            }
            flag if LEFT_OUT.contains(&flag) => notes.push(left_out(flag, value()?)),
            flag => return Err(format!("it is started with '{flag}', which has no meaning here")),
        }
    };
    let source: Source = format!("image:{image}").parse().map_err(|error: crate::error::Error| error.detail)?;
    let arguments = words.map(str::to_owned).collect();
    let mut server = Imported { arguments, memory_limit, notes, ..Imported::of(name, source) };
    for variable in variables {
        // Without a value, it stands in `env`, which comes after this, or in the client's environment.
        match variable.split_once('=') {
            Some((name, value)) => server.variable(name, Some(value), false),
            None => server.variable(variable, None, false),
        }
    }
    Ok(server)
}

fn left_out(flag: &str, value: &str) -> String {
    format!("{flag} {value} is left out; add it to the template where it is meant")
}

/// An option and the value that is joined to it: `--env=A=b`, `-eA=b`, `-ite A=b`. None for letters that stand for switches.
fn option(word: &str) -> Option<(String, Option<&str>)> {
    if word.starts_with("--") {
        let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        return Some((flag.to_owned(), value));
    }
    let letters = word.trim_start_matches('-').trim_start_matches(LETTERS);
    let letter = letters.chars().next().filter(|letter| *letter != '=')?;
    let value = &letters[letter.len_utf8()..];
    let value = value.strip_prefix('=').unwrap_or(value);
    Some((format!("-{letter}"), Some(value).filter(|value| !value.is_empty())))
}
