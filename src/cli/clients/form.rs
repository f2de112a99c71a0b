//! What a client's entry in the table can say, and the entry of a server that follows from it. It knows no client and no file.

use super::format::{Format, Section};
use super::node::Node;
use super::place::{Place, Places};

/// Name of the variable that holds the key of the manager, here and in what clients are told.
pub const KEY_VARIABLE: &str = "MCP_MANAGER_API_KEY";

/// A client.
#[derive(Debug)]
pub struct Client {
    /// What is typed.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Where its file is, for each system.
    pub places: Places,
    /// Variables that name its directory, each with the file's name below it; with an empty name, it names the file. The first
    /// that is set counts.
    pub variables: &'static [(&'static str, &'static str)],
    /// Programs that show that it is installed.
    pub programs: &'static [&'static str],
    /// A directory that shows that it is, or was, installed.
    pub trace: Option<Place>,
    /// How the file is written.
    pub format: Format,
    /// Where in the file servers stand.
    pub section: Section,
    /// The form of newer versions, in the same file; entries take it where the file has servers in it already.
    pub newer: Option<&'static Self>,
    /// What a new file begins with.
    pub starter: &'static str,
    /// How a server of Streamable HTTP is written; nothing for clients that start programs only.
    pub remote: Option<Remote>,
    /// How a server that is a program is written.
    pub stdio: Stdio,
    /// Where the key goes.
    pub bearer: Bearer,
    /// How the file refers to a variable, so that the key need not stand in it.
    pub reference: Variable,
    /// Whether tools that only read may run without a question.
    pub approve: Approve,
    /// Where all this is from.
    pub sources: &'static [&'static str],
    /// What could not be found out.
    pub unknown: &'static str,
}

/// An entry for a server of Streamable HTTP: fields before the address, its name, fields after it.
#[derive(Debug)]
pub struct Remote {
    /// Fields before the address.
    pub lead: &'static [(&'static str, Fixed)],
    /// Name of the field with the address.
    pub url: &'static str,
    /// Fields after it.
    pub tail: &'static [(&'static str, Fixed)],
}

/// An entry for a server that is a program.
#[derive(Debug, Clone, Copy)]
pub struct Stdio {
    /// Fields before the command.
    pub lead: &'static [(&'static str, Fixed)],
    /// Name of the field with the command.
    pub command: &'static str,
    /// Name of the field with the variables.
    pub env: &'static str,
    /// Program and arguments are one list.
    pub joined: bool,
    /// How the program comes by the key.
    pub key: Handed,
    /// Fields after it.
    pub tail: &'static [(&'static str, Fixed)],
}

/// A field whose value is the same for all servers.
#[derive(Debug, Clone, Copy)]
pub enum Fixed {
    /// A text.
    Text(&'static str),
    /// Yes.
    True,
    /// A number.
    Number(&'static str),
    /// The name of the entry.
    EntryName,
    /// The list of all: `["*"]`.
    Everything,
}

/// Where the key goes.
#[derive(Debug, Clone, Copy)]
pub enum Bearer {
    /// Into an `Authorization` header, under this field.
    Header(&'static str),
    /// Into this field, by itself.
    Token(&'static str),
}

/// How a file refers to a variable.
#[derive(Debug, Clone, Copy)]
pub enum Variable {
    /// The name with this before and after it, within a text.
    Around(&'static str, &'static str),
    /// A field of its own, which holds the name of the variable.
    NamedIn(&'static str),
    /// The field of the entry that lists the names of its variables; then as in `Around`.
    Listed(&'static str, &'static str, &'static str),
    /// It cannot, or is not known to be able to.
    Unknown,
}

/// How a program that a client starts comes by a variable of the client's. Most clients hand on few of them.
#[derive(Debug, Clone, Copy)]
pub enum Handed {
    /// Its entry refers to the variable as entries with addresses do.
    ByReference,
    /// A field of its entry lists the names of variables that it is to have.
    ByName(&'static str),
    /// It has all variables of its client.
    Inherited,
    /// It does not, or is not known to.
    Unknown,
}

/// Whether tools that only read may run without a question.
#[derive(Debug, Clone, Copy)]
pub enum Approve {
    /// The client has no field for it.
    Never,
    /// In this field, when the user asks for it.
    WhenAsked(&'static str),
    /// In this field, always.
    Always(&'static str),
}

/// The key of the manager, as an entry is to hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The manager takes everybody.
    None,
    /// By reference to [`KEY_VARIABLE`].
    Reference,
    /// As it is.
    Literal(String),
}

/// What an entry leads to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the entry.
    pub name: String,
    /// Address of the endpoint.
    pub url: String,
    /// The program that speaks for it on standard input and output, for clients that start programs.
    pub program: String,
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// Whether the arguments name a file that holds the key.
    pub has_key_file: bool,
    /// Tools that may run without a question.
    pub approved: Vec<String>,
}

impl Client {
    /// The entry for `target`; nothing when the client cannot refer to the key.
    pub fn entry(&self, target: &Target, key: &Key, stdio: bool) -> Option<Node> {
        let mut pairs = match &self.remote {
            Some(remote) if !stdio => self.remote_entry(remote, target, key)?,
            _ => self.stdio_entry(target, key)?,
        };
        if let Some(field) = self.approval(!target.approved.is_empty()) {
            pairs.push((field.to_owned(), Node::texts(&target.approved)));
        }
        Some(Node::Map(pairs))
    }

    /// The field of approved tools, where one is written.
    fn approval(&self, some: bool) -> Option<&'static str> {
        match self.approve {
            Approve::Always(field) => Some(field),
            Approve::WhenAsked(field) => some.then_some(field),
            Approve::Never => None,
        }
    }

    fn remote_entry(&self, remote: &Remote, target: &Target, key: &Key) -> Option<Vec<(String, Node)>> {
        let mut pairs = fixed(remote.lead, &target.name);
        pairs.push((remote.url.to_owned(), Node::text(&target.url)));
        let token = match (key, self.reference) {
            (Key::None, _) => None,
            (Key::Literal(key), _) => Some(key.clone()),
            (Key::Reference, Variable::Around(before, after)) => Some(format!("{before}{KEY_VARIABLE}{after}")),
            (Key::Reference, Variable::NamedIn(field)) => {
                pairs.push((field.to_owned(), Node::text(KEY_VARIABLE)));
                None
            }
            (Key::Reference, Variable::Listed(field, before, after)) => {
                pairs.push((field.to_owned(), Node::texts([KEY_VARIABLE])));
                Some(format!("{before}{KEY_VARIABLE}{after}"))
            }
            (Key::Reference, Variable::Unknown) => return None,
        };
        match (token, self.bearer) {
            (Some(token), Bearer::Header(field)) => {
                let header = ("Authorization".to_owned(), Node::text(format!("Bearer {token}")));
                pairs.push((field.to_owned(), Node::Map(vec![header])));
            }
            (Some(token), Bearer::Token(field)) => pairs.push((field.to_owned(), Node::text(token))),
            (None, _) => {}
        }
        pairs.extend(fixed(remote.tail, &target.name));
        Some(pairs)
    }

    fn stdio_entry(&self, target: &Target, key: &Key) -> Option<Vec<(String, Node)>> {
        let stdio = &self.stdio;
        let mut pairs = fixed(stdio.lead, &target.name);
        if stdio.joined {
            let words = std::iter::once(&target.program).chain(&target.arguments);
            pairs.push((stdio.command.to_owned(), Node::texts(words)));
        } else {
            pairs.push((stdio.command.to_owned(), Node::text(&target.program)));
            pairs.push(("args".to_owned(), Node::texts(&target.arguments)));
        }
        let variable = |value: String| (stdio.env.to_owned(), Node::Map(vec![(KEY_VARIABLE.to_owned(), Node::text(value))]));
        pairs.extend(match (key, stdio.key, self.reference) {
            (Key::None, ..) | (Key::Reference, Handed::Inherited, _) => None,
            (Key::Literal(key), ..) => Some(variable(key.clone())),
            (Key::Reference, ..) if target.has_key_file => None,
            (Key::Reference, Handed::ByName(field), _) | (Key::Reference, Handed::ByReference, Variable::Listed(field, ..)) => {
                Some((field.to_owned(), Node::texts([KEY_VARIABLE])))
            }
            (Key::Reference, Handed::ByReference, Variable::Around(before, after)) => {
                Some(variable(format!("{before}{KEY_VARIABLE}{after}")))
            }
            (Key::Reference, ..) => return None,
        });
        pairs.extend(fixed(stdio.tail, &target.name));
        Some(pairs)
    }
}

fn fixed(fields: &[(&str, Fixed)], name: &str) -> Vec<(String, Node)> {
    let value = |what: Fixed| match what {
        Fixed::Text(text) => Node::text(text),
        Fixed::True => Node::Bool(true),
        Fixed::Number(number) => Node::Plain(number.to_owned()),
        Fixed::EntryName => Node::text(name),
        Fixed::Everything => Node::texts(["*"]),
    };
    fields.iter().map(|(field, what)| ((*field).to_owned(), value(*what))).collect()
}
