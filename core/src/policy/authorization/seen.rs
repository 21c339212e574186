use super::attribute::Attribute;
use super::evaluation::View;
use super::rule::{Condition, Test};
use crate::host::HeaderMap;
use crate::matchers::Truth;
use crate::trace;

impl Test {
    /// What is told of it: only who listens runs this.
    pub(super) fn seen(&self, view: &View<'_, '_>, holds: Truth) -> trace::Condition {
        let condition = &self.condition;
        trace::Condition {
            place: self.place.clone(),
            holds,
            seen: condition.seen(view),
            reading: view.path.filter(|_| condition.depends_on_path()).map(<[u8]>::to_vec),
            token: view
                .evaluation
                .token
                .filter(|_| condition.depends_on_token())
                .map(|token| token.rule.clone()),
        }
    }
}

impl Condition {
    /// The values that the request has where the condition looks.
    fn seen(&self, view: &View<'_, '_>) -> Vec<Vec<u8>> {
        let request = view.evaluation.request;
        let text = |text: String| vec![text.into_bytes()];
        match self {
            Condition::Text(attribute, _) => attribute.seen(view),
            Condition::RequestPrincipal(..) => Attribute::RequestPrincipal.seen(view),
            Condition::Host(_) => request.header(":authority").map(<[u8]>::to_vec).into_iter().collect(),
            Condition::Path(_) => view.path.map(<[u8]>::to_vec).into_iter().collect(),
            Condition::DirectAddress(id, _) | Condition::Address(id, _) => {
                request.ip(*id).map_or_else(Vec::new, |address| text(address.to_string()))
            }
            Condition::Port(id, _) => {
                request.number(*id).map_or_else(Vec::new, |port| text(port.to_string()))
            }
            Condition::MetadataList(id, _) => {
                let list = request.attribute(*id).and_then(|bytes| HeaderMap::parse(bytes.to_vec()).ok());
                list.iter().flat_map(HeaderMap::iter).map(|(value, _)| value.to_vec()).collect()
            }
            Condition::Any(conditions) => {
                conditions.iter().flat_map(|condition| condition.seen(view)).collect()
            }
        }
    }
}

impl Attribute {
    fn seen(&self, view: &View<'_, '_>) -> Vec<Vec<u8>> {
        if let Attribute::Claim(path) = self
            && let Some(value) = view.claim(path)
            && !(value.is_string() || value.is_array())
        {
            return vec![value.to_string().into_bytes()];
        }
        let mut seen = Vec::new();
        self.any(view, &mut |value| {
            seen.push(value.to_vec());
            Truth::No
        });
        seen
    }
}
