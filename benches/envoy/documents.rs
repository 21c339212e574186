//! What a whole run leaves in the repository: the figures, and the page and the picture made from them.

use std::fs;
use std::path::PathBuf;

use crate::plot::plot;
use crate::report::report;
use crate::results::Results;
use crate::support::repository;

const BEGIN: &str = "<!-- figures: begin -->\n";
const END: &str = "<!-- figures: end -->\n";

fn figures() -> PathBuf {
    repository("docs/performance.json")
}

/// The figures of the last whole run.
pub fn read() -> Result<Results, String> {
    let path = figures();
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Keeps the figures of a whole run, and draws what is made from them.
pub fn write(results: &Results) -> Result<(), String> {
    let text = serde_json::to_string_pretty(results).map_err(|error| error.to_string())?;
    save(&figures(), &(text + "\n"))?;
    redraw(results)
}

/// Draws what is made from the figures.
pub fn redraw(results: &Results) -> Result<(), String> {
    for (path, text) in drawn(results)? {
        save(&path, &text)?;
    }
    Ok(())
}

/// That page and picture are those of the figures; as long as there are none, the page has none.
pub fn check() -> Result<(), String> {
    if !figures().exists() {
        let page =
            fs::read_to_string(repository("docs/performance.md")).map_err(|error| error.to_string())?;
        let empty = page.contains(&format!("{BEGIN}{END}"));
        return empty
            .then_some(())
            .ok_or("docs/performance.md has figures, and docs/performance.json is missing".to_owned());
    }
    for (path, text) in drawn(&read()?)? {
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            return Err(format!(
                "{} is not what docs/performance.json says; run `make bench REDRAW=1`",
                path.display()
            ));
        }
    }
    Ok(())
}

fn drawn(results: &Results) -> Result<[(PathBuf, String); 2], String> {
    let page = repository("docs/performance.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let between =
        |text: &str| Some((text.split_once(BEGIN)?.0.to_owned(), text.split_once(END)?.1.to_owned()));
    let (before, after) =
        between(&text).ok_or_else(|| format!("{} needs the lines {BEGIN}{END}", page.display()))?;
    let text = format!("{before}{BEGIN}\n{}\n{END}{after}", report(results).trim_end());
    Ok([(page, text), (repository("docs/performance.svg"), plot(results))])
}

fn save(path: &PathBuf, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
