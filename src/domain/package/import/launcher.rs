//! What `npx`, `uvx` and their like are told: which package, what more is installed beside it, and which of its programs is
//! started with which arguments.

use super::super::known::same_in_python;
use super::super::{Ecosystem, Package, Source, distribution, is_with};
use super::{Imported, engine};
use crate::error::Error;

/// What a program that installs a package and starts it understands.
struct Launcher {
    ecosystem: Ecosystem,
    /// Options that name the package, when its program has another name.
    named: &'static [&'static str],
    /// Options that name further packages.
    with: &'static [&'static str],
    /// Options that choose the interpreter.
    interpreter: &'static [&'static str],
    /// Options that mean nothing where an image is made.
    ignored: &'static [&'static str],
}

const NPM: Launcher = Launcher {
    ecosystem: Ecosystem::Npm,
    named: &["-p", "--package"],
    with: &[],
    interpreter: &[],
    ignored: &["-y", "--yes", "-q", "--quiet", "-s", "--silent", "--bun"],
};

const PYPI: Launcher = Launcher {
    ecosystem: Ecosystem::Pypi,
    named: &["--from", "--spec"],
    with: &["-w", "--with"],
    interpreter: &["-p", "--python"],
    ignored: &["-q", "--quiet", "-n", "--no-cache", "--no-progress", "--isolated", "--no-project", "--refresh", "--reinstall"],
};

/// Reads a command and its arguments into the server that they start.
pub(super) fn read(name: &str, line: &[String]) -> Result<Imported, String> {
    let (program, words) = line.split_first().ok_or("it names no command")?;
    let program = file_name(program);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // `npm --silent exec …`
    let general = words.iter().take_while(|word| NPM.ignored.contains(word)).count();
    match (program, &words[general..]) {
        ("npx" | "bunx" | "pnpx", _) => NPM.read(name, &words),
        ("uvx", _) => PYPI.read(name, &words),
        ("docker" | "podman", _) => engine::read(name, &words),
        ("npm", ["exec" | "x", words @ ..]) => {
            let mut server = NPM.read(name, words)?;
            // It parts its own options from the arguments, and npm keeps it.
            if server.arguments.first().is_some_and(|word| word == "--") {
                server.arguments.remove(0);
            }
            Ok(server)
        }
        ("pnpm" | "yarn", ["dlx", words @ ..]) | ("bun", ["x", words @ ..]) => NPM.read(name, words),
        ("uv", ["tool", "run", words @ ..]) | ("pipx", ["run", words @ ..]) => PYPI.read(name, words),
        ("uv", ["run", words @ ..]) => Launcher { named: PYPI.with, with: &[], ..PYPI }.read_named(name, words),
        _ => Err(of_machine(program)),
    }
}

fn of_machine(program: &str) -> String {
    format!("it starts '{program}', which is a program of this machine and not a package")
}

/// The name of a program, without the folders and the endings that it may have.
pub(super) fn file_name(command: &str) -> &str {
    let name = command.rsplit(['/', '\\']).next().unwrap_or(command);
    name.trim_end_matches(".exe").trim_end_matches(".cmd")
}

/// The words of a launcher.
#[derive(Default)]
struct Told<'w> {
    named: Vec<String>,
    with: Vec<String>,
    notes: Vec<String>,
    first: &'w str,
    arguments: &'w [&'w str],
}

impl Launcher {
    fn read(&self, name: &str, words: &[&str]) -> Result<Imported, String> {
        let told = self.told(words)?;
        if told.named.is_empty() {
            return self.server(name, told.first, None, &told);
        }
        let wanted = told.named.iter().find(|package| self.is_program_of(package, told.first)).unwrap_or(&told.named[0]);
        self.server(name, wanted, Some(told.first), &told)
    }

    /// Of `uv run`, which starts any program: one of a package that is named.
    fn read_named(&self, name: &str, words: &[&str]) -> Result<Imported, String> {
        let told = self.told(words)?;
        let wanted = told.named.iter().find(|package| self.is_program_of(package, told.first));
        self.server(name, wanted.ok_or_else(|| of_machine(file_name(told.first)))?, Some(told.first), &told)
    }

    fn told<'w>(&self, words: &'w [&'w str]) -> Result<Told<'w>, String> {
        let mut told = Told::default();
        let mut rest = words.iter();
        told.first = loop {
            let word = *rest.next().ok_or("it names no package")?;
            if word == "--" {
                break rest.next().ok_or("it names no package")?;
            }
            if !word.starts_with('-') {
                break word;
            }
            let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
            let mut value = || value.or_else(|| rest.next().copied()).ok_or("it ends within an option");
            if self.named.contains(&flag) {
                told.named.extend(self.packages(value()?));
            } else if self.with.contains(&flag) {
                told.with.extend(self.packages(value()?));
            } else if self.interpreter.contains(&flag) {
                let value = value()?;
                told.notes.push(format!("{flag} {value} is left out; the Python of its image counts"));
            } else if !self.ignored.contains(&flag) {
                return Err(format!("it is started with '{flag}', which has no meaning here"));
            }
        };
        told.arguments = rest.as_slice();
        Ok(told)
    }

    fn server(&self, name: &str, package: &str, program: Option<&str>, told: &Told<'_>) -> Result<Imported, String> {
        let (source, more) = self.parted(package).map_err(|error| error.detail)?;
        let program = program.filter(|program| !matches!(&source, Source::Package(Package { name, .. }) if name == program));
        let others = told.named.iter().filter(|named| *named != package).chain(&told.with);
        let with: Vec<String> = more.iter().chain(others).cloned().collect();
        if let Some(text) = with.iter().find(|text| !is_with(self.ecosystem, text)) {
            return Err(format!("it is started with '{text}', which names no package that could be added"));
        }
        Ok(Imported {
            program: program.map(str::to_owned),
            with,
            arguments: told.arguments.iter().map(|word| (*word).to_owned()).collect(),
            notes: told.notes.clone(),
            ..Imported::of(name, source)
        })
    }

    fn source(&self, package: &str) -> Result<Source, Error> {
        format!("{}:{package}", self.ecosystem.as_str()).parse()
    }

    /// A package as a source names it, and what more is said of it: extras and ranges of versions, for which a source has no
    /// words, and what is installed beside it has.
    fn parted(&self, package: &str) -> Result<(Source, Option<String>), Error> {
        let whole = self.source(package).map(|source| (source, None));
        if whole.is_ok() || self.ecosystem == Ecosystem::Npm {
            return whole;
        }
        let name = distribution(package);
        let rest = &package[name.len()..];
        let (extras, version) = rest.find(']').filter(|_| rest.starts_with('[')).map_or(("", rest), |end| rest.split_at(end + 1));
        if let Ok(source) = self.source(&format!("{name}{version}")) {
            return Ok((source, Some(format!("{name}{extras}"))));
        }
        self.source(name).map(|source| (source, Some(package.to_owned()))).or(whole)
    }

    /// Whether a program has the name of a package.
    fn is_program_of(&self, package: &str, program: &str) -> bool {
        match self.ecosystem {
            Ecosystem::Npm => package.rsplit('/').next().and_then(|last| last.split('@').next()) == Some(program),
            Ecosystem::Pypi => same_in_python(distribution(package), program),
        }
    }

    /// The packages in an option's value; those of Python may be several: `a,b>=1,<2`.
    fn packages(&self, text: &str) -> Vec<String> {
        if self.ecosystem == Ecosystem::Npm {
            return vec![text.to_owned()];
        }
        let mut packages: Vec<String> = Vec::new();
        for piece in text.split(',') {
            let piece: String = piece.chars().filter(|letter| !letter.is_whitespace()).collect();
            let goes_on =
                |before: &String| piece.starts_with(['<', '>', '=', '!', '~']) || before.contains('[') && !before.contains(']');
            match packages.last_mut().filter(|before| goes_on(before)) {
                Some(before) => *before = format!("{before},{piece}"),
                None => packages.push(piece),
            }
        }
        packages
    }
}
