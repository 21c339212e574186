use std::rc::Rc;

use super::super::{Context, Path, http_match};
use crate::document;
use meshfilter_core::policy::authentication::{Require, Requirement};

/// Compiles one entry of `requirements`; rules go by their names.
pub fn compile(
    source: &document::TokenRequirement,
    names: &[Rc<str>],
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Requirement {
    let place = path.field("match");
    let guard = http_match::guard(source.matches.as_ref(), &place, cx);
    for (index, conditions) in guard.matches.iter().enumerate() {
        if !conditions.claims.is_empty() || !conditions.without_claims.is_empty() {
            cx.errors.add(
                &place.index(index),
                "claims are not known before the token is verified; match them in http, or use requiredClaims",
            );
        }
    }
    Requirement { guard, require: compile_require(source, names, path, cx) }
}

fn compile_require(
    source: &document::TokenRequirement,
    names: &[Rc<str>],
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Require {
    let place = path.field("require");
    let rules = path.field("rules");
    let refuse_rules = |remedy: &str| {
        if source.rules.is_some() {
            cx.errors.add(&rules, remedy);
        }
    };
    let word = match &source.require {
        None => "any",
        Some(document::Requirement::Word(word)) => word,
        Some(document::Requirement::Tree(tree)) => {
            refuse_rules("a tree names its rules itself; leave this out");
            return compile_tree(tree, names, &place, cx);
        }
    };
    let chosen = || named(source.rules.as_deref(), names, &rules, cx);
    let each = || chosen().into_iter().map(Require::Rule).collect();
    match word {
        "any" => Require::Any(each()),
        "all" => Require::All(each()),
        "optional" => Require::Optional(Box::new(Require::Any(each()))),
        "permissive" => Require::Permissive(chosen()),
        "none" => {
            refuse_rules("where nothing is required there are no rules; leave this out");
            Require::None
        }
        other => {
            cx.errors.add(
                &place,
                format_args!(
                    "\"{other}\" is not a requirement; use any, all, optional, permissive, none or a tree such as {{all: [...]}}; rules are named in \"rules\""
                ),
            );
            Require::None
        }
    }
}

/// The places of the named rules; all of them where none are named.
fn named(rules: Option<&[String]>, names: &[Rc<str>], path: &Path<'_>, cx: &Context<'_>) -> Vec<usize> {
    let Some(rules) = rules else { return (0..names.len()).collect() };
    if rules.is_empty() {
        cx.errors.add(path, "an empty list; name a rule, or leave it out for all of them");
    }
    rules.iter().enumerate().filter_map(|(index, name)| find(name, names, &path.index(index), cx)).collect()
}

fn find(name: &str, names: &[Rc<str>], path: &Path<'_>, cx: &Context<'_>) -> Option<usize> {
    let found = names.iter().position(|known| **known == *name);
    if found.is_none() {
        let known: Vec<String> = names.iter().map(|known| format!("\"{known}\"")).collect();
        cx.errors.add(path, format_args!("\"{name}\" is not a rule; use {}", known.join(" or ")));
    }
    found
}

fn compile_node(
    source: &document::Requirement,
    names: &[Rc<str>],
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Require {
    match source {
        document::Requirement::Word(name) => find(name, names, path, cx).map_or(Require::None, Require::Rule),
        document::Requirement::Tree(tree) => compile_tree(tree, names, path, cx),
    }
}

fn compile_tree(
    tree: &document::RequirementTree,
    names: &[Rc<str>],
    path: &Path<'_>,
    cx: &Context<'_>,
) -> Require {
    let list = |children: &[document::Requirement], name: &str| -> Vec<Require> {
        let place = path.field(name);
        if children.is_empty() {
            cx.errors.add(&place, "an empty list; name a rule in it");
        }
        let compiled = children
            .iter()
            .enumerate()
            .map(|(index, child)| compile_node(child, names, &place.index(index), cx));
        compiled.collect()
    };
    let given = [
        tree.all.as_ref().map(|children| Require::All(list(children, "all"))),
        tree.any.as_ref().map(|children| Require::Any(list(children, "any"))),
        tree.optional.as_ref().map(|child| {
            Require::Optional(Box::new(compile_node(child, names, &path.field("optional"), cx)))
        }),
        tree.permissive.as_ref().map(|child| {
            let mut rules = Vec::new();
            leaves(&compile_node(child, names, &path.field("permissive"), cx), &mut rules);
            Require::Permissive(rules)
        }),
    ];
    let mut given = given.into_iter().flatten();
    let first = given.next();
    if first.is_none() || given.next().is_some() {
        cx.errors.add(
            path,
            "not one requirement; use one of {all: [...]}, {any: [...]}, {optional: ...}, {permissive: ...}",
        );
    }
    first.unwrap_or(Require::None)
}

/// Every rule of a tree once: where missing and bad tokens pass, it is all the same how they stand together.
fn leaves(require: &Require, rules: &mut Vec<usize>) {
    match require {
        Require::None => {}
        Require::Rule(rule) => {
            if !rules.contains(rule) {
                rules.push(*rule);
            }
        }
        Require::Any(children) | Require::All(children) => {
            children.iter().for_each(|child| leaves(child, rules));
        }
        Require::Optional(child) => leaves(child, rules),
        Require::Permissive(inner) => inner.iter().for_each(|rule| leaves(&Require::Rule(*rule), rules)),
    }
}
