//! What stands in the wrong place in a ServiceProfile, by a slip of indentation, and where it belongs.

use serde_json::{Map, Value};

use crate::import::repair::Move;

/// What stands beside a route's `condition`.
const OF_ROUTE: [&str; 4] = ["name", "isRetryable", "timeout", "responseClasses"];

/// The routes of a ServiceProfile.
pub fn service_profile(resource: &mut Value) -> Vec<Move> {
    let mut moves = Vec::new();
    let Some(spec) = resource.get_mut("spec").and_then(Value::as_object_mut) else { return moves };
    let mut out_of_routes = Map::new();
    let routes = spec.get_mut("routes").and_then(Value::as_array_mut);
    for (index, route) in routes.into_iter().flatten().enumerate() {
        let path = format!("spec.routes[{index}]");
        let Some(route) = route.as_object_mut() else { continue };
        for name in OF_ROUTE {
            out_of(
                route,
                "condition",
                name,
                &path,
                "it says what becomes of requests, and no condition",
                &mut moves,
            );
        }
        let classes = route.get_mut("responseClasses").and_then(Value::as_array_mut);
        for (index, class) in classes.into_iter().flatten().enumerate() {
            let path = format!("{path}.responseClasses[{index}]");
            if let Some(class) = class.as_object_mut() {
                let reason = "it says what responses mean, and no condition";
                out_of(class, "condition", "isFailure", &path, reason, &mut moves);
            }
        }
        if let Some(budget) = route.remove("retryBudget") {
            moves.push(Move {
                from: format!("{path}.retryBudget"),
                to: "spec.retryBudget".to_owned(),
                value: budget.clone(),
                reason: "the budget is that of all routes together".to_owned(),
            });
            out_of_routes.insert("retryBudget".to_owned(), budget);
        }
    }
    for (name, value) in out_of_routes {
        spec.entry(name).or_insert(value);
    }
    moves
}

/// Moves a member out of one of an object's members into the object itself, unless it has one of that name.
fn out_of(
    object: &mut Map<String, Value>,
    within: &str,
    name: &str,
    path: &str,
    reason: &str,
    moves: &mut Vec<Move>,
) {
    if object.contains_key(name) {
        return;
    }
    let inner = object.get_mut(within).and_then(Value::as_object_mut);
    let Some(value) = inner.and_then(|inner| inner.remove(name)) else { return };
    moves.push(Move {
        from: format!("{path}.{within}.{name}"),
        to: format!("{path}.{name}"),
        value: value.clone(),
        reason: reason.to_owned(),
    });
    object.insert(name.to_owned(), value);
}
