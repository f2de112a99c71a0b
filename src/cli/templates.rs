//! Commands about templates: ls, show, schema ask the manager or need none; validate reads files as the manager does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::client::{Client, Query};
use super::exit::{Code, Outcome, Trouble};
use super::output::{Judgement, Output, Value};
use super::request::shown;
use crate::domain::template::{is_template_name, json_schema};
use crate::error::{Error, FieldError};
use crate::manager::{TemplateDetail, TemplateList};
use crate::registry::{MAX_FILE_SIZE, check_file, files_in, given_already, read_in};

/// `mcp-manager template ls`.
pub async fn list(client: &Client, output: &Output) -> Outcome {
    let list: TemplateList = client.get("/templates", &Query::new()).await?;
    if output.json {
        return output.document(&list.templates);
    }
    if output.quiet {
        let mut usable = list.templates.iter().filter(|template| template.usable && template.default);
        return usable.try_for_each(|template| output.text(&template.name));
    }
    if list.templates.is_empty() {
        output.note("no templates; 'mcp-manager config show' says which directory they come from (templates.dir)");
        return Ok(());
    }
    let rows = list.templates.iter().map(|template| {
        let state = match (template.usable, template.stale) {
            (true, false) => Value::default(),
            (true, true) => Value::judged("stale", Judgement::Doubtful),
            (false, _) => Value::judged("broken", Judgement::Bad),
        };
        let errors: Vec<String> = template.errors.iter().map(ToString::to_string).collect();
        vec![
            Value::plain(&template.name),
            Value::plain(template.version.clone().unwrap_or_default()),
            state,
            Value::plain(template.image.clone().unwrap_or_default()),
            Value::plain(template.required_env_vars.join(", ")),
            Value::plain(template.description.clone().unwrap_or_default()),
            Value::plain(errors.join("\n")),
        ]
    });
    output.table(&["NAME", "VERSION", "STATE", "IMAGE", "NEEDS", "DESCRIPTION", "ERRORS"], rows.collect())
}

/// `mcp-manager template show`. A document is shown as it is, on a terminal too: it is what people edit.
pub async fn show(client: &Client, output: &Output, reference: &str) -> Outcome {
    let (name, version) = reference.split_once('@').unwrap_or((reference, "0"));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    if !is_template_name(name) || version.is_empty() || !plain(version) {
        let message = format!("'{}' is not the name of a template", reference.escape_debug());
        return Err(Error::invalid_field("name", message, "write NAME or NAME@VERSION").into());
    }
    let detail: TemplateDetail = client.get(&format!("/templates/{reference}"), &Query::new()).await?;
    if output.json {
        return output.document(&detail);
    }
    for error in &detail.summary.errors {
        output.note(&format!("{}: {error}", detail.summary.file));
    }
    match &detail.document {
        Some(document) => output.document(document),
        None => Err(Trouble::Said(Code::Failed)),
    }
}

/// `mcp-manager template validate`: every file is looked at, of a directory those that the manager would read, and all
/// that is wrong with each is told.
pub fn validate(output: &Output, paths: &[PathBuf]) -> Outcome {
    let mut results = Vec::new();
    let mut wrong = false;
    // The files of one directory share their names; those that are named one by one may be of many.
    let files = paths.iter().enumerate().flat_map(|(place, path)| contents(path).into_iter().map(move |file| (place, file)));
    let mut owners: BTreeMap<(usize, String, String), String> = BTreeMap::new();
    for (place, (file, content)) in files {
        let name = if file == Path::new("-") { "template.json" } else { file_name(&file) };
        let checked = content.and_then(|content| check_file(&content, name)).and_then(|template| {
            let key = (place, template.name.clone(), template.version.clone());
            let owner = owners.entry(key).or_insert_with(|| name.to_owned());
            if owner == name { Ok(template) } else { Err(vec![given_already(&template, owner, name)]) }
        });
        wrong |= checked.is_err();
        if output.json {
            results.push(match &checked {
                Ok(template) => json!({"file": shown(&file), "valid": true, "name": template.name, "version": template.version}),
                Err(errors) => json!({"file": shown(&file), "valid": false, "errors": errors}),
            });
            continue;
        }
        match checked {
            Ok(template) if !output.quiet => {
                output.text(&format!("{}: ok, {}@{}", shown(&file), template.name, template.version))?;
            }
            Ok(_) => {}
            Err(errors) => errors.iter().try_for_each(|error| output.text(&format!("{}: {error}", shown(&file))))?,
        }
    }
    if output.json {
        output.document(&results)?;
    }
    if wrong { Err(Trouble::Said(Code::Usage)) } else { Ok(()) }
}

/// A file and what is in it, or why that cannot be told.
type Content = (PathBuf, Result<Vec<u8>, Vec<FieldError>>);

/// What is in a file, or in those of a directory; as much of it as tells whether it is too large.
fn contents(path: &Path) -> Vec<Content> {
    let fault = |error: &io::Error| {
        vec![FieldError::new("", format!("it cannot be read: {error}"), "name a file or directory that you may read, or -")]
    };
    if !path.is_dir() {
        return vec![(path.to_owned(), content(path).map_err(|error| fault(&error)))];
    }
    match files_in(path) {
        Ok(names) if names.is_empty() => {
            let error = FieldError::new("", "the directory has no template files", "a template file is named NAME.json");
            vec![(path.to_owned(), Err(vec![error]))]
        }
        Ok(names) => {
            let content = |name: &String| (path.join(name), read_in(path, name).map_err(|error| vec![error]));
            names.iter().map(content).collect()
        }
        Err(error) => vec![(path.to_owned(), Err(fault(&error)))],
    }
}

fn content(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn file_name(file: &Path) -> &str {
    file.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// `mcp-manager template schema`.
pub fn schema(output: &Output) -> Outcome {
    output.document(&json_schema())
}
