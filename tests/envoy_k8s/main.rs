//! The manifests of `envoy/k8s`, without a cluster: what kustomize makes of them is held to the schemas of their kinds, and
//! what a control plane would make of that is given to a stock Envoy, which then decides requests.

#[path = "../shared/mod.rs"]
mod shared;
#[path = "../support/mod.rs"]
mod support;

mod envoyfilter;
mod gateway;
mod install;
mod istio;
mod kustomize;
mod manifests;
mod pod;
mod production;
mod proxy;
