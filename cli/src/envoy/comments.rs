//! Why Envoy's options stand as they do: what the builder writes above them.

use super::yaml::Comment;

/// Above a policy that stands as a text.
pub const FRACTIONS: Comment = (
    "configuration",
    "JSON, because Envoy reads numbers such as 0.5 in YAML as texts where it does not know of which type they are.",
);

/// By the ends of their paths.
pub const ALL: [Comment; 29] = [
    ("admin", "Whoever reaches this port rules the proxy: keep it on loopback."),
    (
        "stats_tags",
        "A plugin's metric has a name and nothing else, so meshfilter writes labels into it: name<label=value>. Each line\n\
         takes one of them out; a new tag of the policy needs a line of its own.",
    ),
    ("histogram_bucket_settings", "Milliseconds, finer than Envoy's own where requests are."),
    (
        "static_layer",
        "Of a hundred requests, how many are logged in which form. While Envoy runs:\n\
         curl -X POST 'ADMIN/runtime_modify?access_log.json=100&access_log.text=0'",
    ),
    (
        "dynamic_modules_strip_custom_stat_prefix",
        "What the native module counts has the name that it has with the wasm module.",
    ),
    (
        "require_client_certificate",
        "Whose certificate is good has the name in it; who shows none has no name.",
    ),
    ("overload_manager", "So many connections, of all clients together, and no more."),
    ("per_connection_buffer_limit_bytes", "What one connection may keep in memory that is not yet sent on."),
    (
        "use_remote_address",
        "The client's address is that of the connection, and x-envoy-* headers of clients are removed: without it a client\n\
         could say who it is, and set timeouts and retries. Behind proxies that you trust: xff_num_trusted_hops.",
    ),
    ("xff_num_trusted_hops", "So many proxies before this one are believed about whom they ask for."),
    ("normalize_path", "One path, one reading: what the policy sees is what the upstream gets."),
    (
        "path_with_escaped_slashes_action",
        "%2F is a slash to some upstreams and none to others, so no policy could hold for both.",
    ),
    ("headers_with_underscores_action", "user_role and user-role are the same header to many upstreams."),
    ("idle_timeout", "Connections on which nothing is asked."),
    (
        "http2_protocol_options.max_concurrent_streams",
        "What one client can keep in memory: so many open requests on a connection, each with headers of so much. Over\n\
         HTTP/2 it sends a header once and has it count again for every request.",
    ),
    ("preserve_external_request_id", "Lets the caller's request id reach the logs."),
    (
        "stream_idle_timeout",
        "Ends streams in which nothing moves, also those whose filter is gone. Longer than any delay of the policy.",
    ),
    ("request_headers_timeout", "Ends requests whose headers do not come."),
    ("custom_tags", "Spans carry the policy's tags, once there is a provider."),
    (
        "typed_config.access_log",
        "Tags are filter state wasm.<name>; the details say which policy refused, and why. The path is without its query,\n\
         which may carry a token.",
    ),
    (
        "on_request_headers",
        "Envoy hides the direct peer from plugins: ipBlocks and source.ip need this. A rewritten host goes to the route below in\n\
         a header, so that Envoy chooses no other virtual host by it. Nobody outside can set either.",
    ),
    (
        "failure_policy",
        "Should the module ever crash, its worker answers 503 for a second, and loads it anew. FAIL_OPEN would let\n\
         everybody in instead.",
    ),
    ("vm_id", "Its own, so that no other plugin reads or writes what it keeps."),
    ("host_env_keys", "Variables of Envoy's environment that the policy reads."),
    ("metrics_namespace", "Metrics have the names that the wasm module's have."),
    (
        "request_mirror_policies",
        "A policy's mirror goes to the cluster that the filter names in these headers; without them nothing is mirrored.",
    ),
    (
        "routes",
        "Where the policy chose a destination, the filter has set this header (a client cannot: the filter removes it\n\
         first), and Envoy chooses its route anew.",
    ),
    (
        "clusters",
        "A destination's cluster is named {host}|{subset}, and {host} without a subset, unless the policy says otherwise.",
    ),
    ("match_typed_subject_alt_names", "The name in the certificate has to be this one."),
];
