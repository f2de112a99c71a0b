//! Every metric of the process, in one place, with its labels and units.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily};
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::error::{Error, Result};

/// The metrics of one process. Labels are closed sets (operations, kinds of error, phases), never names that callers
/// choose, so the number of series is bounded.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// `mcp_manager_http_requests_total{method,route,status}`.
    pub http_requests: IntCounterVec,
    /// `mcp_manager_http_request_duration_seconds{method,route}`.
    pub http_duration: HistogramVec,
    /// `mcp_manager_operations_total{operation,result}`; result is `ok` or the slug of the error's kind.
    pub operations: IntCounterVec,
    /// `mcp_manager_operation_duration_seconds{operation}`.
    pub operation_duration: HistogramVec,
    /// `mcp_manager_services{phase}`.
    pub services: IntGaugeVec,
    /// `mcp_manager_replicas{health}`.
    pub replicas: IntGaugeVec,
    /// `mcp_manager_templates`: valid templates loaded.
    pub templates: IntGauge,
    /// `mcp_manager_template_reloads_total{result}`.
    pub template_reloads: IntCounterVec,
    /// `mcp_manager_template_errors`: files that hold no valid template at present.
    pub template_errors: IntGauge,
    /// `mcp_manager_reconciles_total{result}`.
    pub reconciles: IntCounterVec,
    /// `mcp_manager_engine_events_total{kind}`.
    pub engine_events: IntCounterVec,
    /// `mcp_manager_engine_event_lag_seconds`: from the engine's time stamp to our handling.
    pub event_lag: HistogramVec,
    /// `mcp_manager_engine_connected`: 1 while the engine answers.
    pub engine_connected: IntGauge,
    /// `mcp_manager_engine_restarts_total`: starts of the supervised engine service after the first.
    pub engine_restarts: IntCounter,
    /// `mcp_manager_image_pulls_total{result}`.
    pub pulls: IntCounterVec,
    /// `mcp_manager_image_pull_duration_seconds{result}`.
    pub pull_duration: HistogramVec,
    /// `mcp_manager_container_restarts_total{reason}`: restarts by policy, or of a container that has lost its network or what serves its port.
    pub container_restarts: IntCounterVec,
    /// `mcp_manager_limits_unenforced_total{limit}`: services created with a limit that nothing enforces.
    pub limits_unenforced: IntCounterVec,
    /// `mcp_manager_gateway_requests_total{status}`; status is the class, `2xx`.
    pub gateway_requests: IntCounterVec,
    /// `mcp_manager_gateway_errors_total{reason}`.
    pub gateway_errors: IntCounterVec,
}

/// Routes that others ask every few seconds, to see whether all is well.
const PROBES: [&str; 3] = ["/health", "/ready", "/metrics"];

const FAST: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
const SLOW: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

impl Metrics {
    /// All metrics, registered at nought.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let metrics = Self {
            http_requests: make.counters("http_requests_total", "Requests answered", &["method", "route", "status"])?,
            http_duration: make.histograms(
                "http_request_duration_seconds",
                "Time to the answer's head",
                FAST,
                &["method", "route"],
            )?,
            operations: make.counters("operations_total", "Operations of the manager", &["operation", "result"])?,
            operation_duration: make.histograms("operation_duration_seconds", "Time of operations", SLOW, &["operation"])?,
            services: make.gauges("services", "Services by phase", &["phase"])?,
            replicas: make.gauges("replicas", "Replicas by health", &["health"])?,
            templates: make.gauge("templates", "Valid templates loaded")?,
            template_reloads: make.counters("template_reloads_total", "Reloads of template files", &["result"])?,
            template_errors: make.gauge("template_errors", "Template files that are not valid at present")?,
            reconciles: make.counters("reconciles_total", "Full comparisons with the engine", &["result"])?,
            engine_events: make.counters("engine_events_total", "Events received from the engine", &["kind"])?,
            event_lag: make.histograms(
                "engine_event_lag_seconds",
                "From the engine's time stamp to our handling",
                FAST,
                &["kind"],
            )?,
            engine_connected: make.gauge("engine_connected", "1 while the engine answers")?,
            engine_restarts: make.counter("engine_restarts_total", "Starts of the supervised engine after the first")?,
            pulls: make.counters("image_pulls_total", "Image pulls", &["result"])?,
            pull_duration: make.histograms("image_pull_duration_seconds", "Time of image pulls", SLOW, &["result"])?,
            container_restarts: make.counters(
                "container_restarts_total",
                "Restarts of containers by policy or for want of their network",
                &["reason"],
            )?,
            limits_unenforced: make.counters("limits_unenforced_total", "Services whose limit nothing enforces", &["limit"])?,
            gateway_requests: make.counters("gateway_requests_total", "Requests passed to services", &["status"])?,
            gateway_errors: make.counters("gateway_errors_total", "Requests the gateway answered itself", &["reason"])?,
            registry: registry.clone(),
        };
        Ok(metrics)
    }

    /// Counts an answer of the API, and times it where it came from a route; `route` is one of a closed set, never a path.
    pub fn answered(&self, method: &Method, route: &str, status: StatusCode, took: Option<Duration>) {
        let method = match *method {
            Method::GET | Method::HEAD => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "OTHER",
        };
        self.http_requests.with_label_values(&[method, route, status.as_str()]).inc();
        if let Some(took) = took {
            self.http_duration.with_label_values(&[method, route]).observe(took.as_secs_f64());
        }
    }

    /// Requests, operations and events of the engine together: as long as it stays the same, nothing happens. What is asked
    /// all the time, whether anything happens or not, does not count.
    #[must_use]
    pub fn happened(&self) -> f64 {
        let counters = [&self.http_requests, &self.gateway_requests, &self.operations, &self.engine_events];
        let regular =
            |one: &Metric| one.get_label().iter().any(|label| label.name() == "route" && PROBES.contains(&label.value()));
        let count = |family: MetricFamily| {
            let counted = family.get_metric().iter().filter(|one| !regular(one));
            counted.map(|one| one.get_counter().get_value()).sum::<f64>()
        };
        counters.into_iter().flat_map(Collector::collect).map(count).sum()
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> Result<String> {
        let mut text = Vec::new();
        let fault = |error: prometheus::Error| Error::internal("the metrics cannot be written", error);
        TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(fault)?;
        String::from_utf8(text).map_err(|error| Error::internal("the metrics are not text", error))
    }
}

/// Makes and registers metrics with the common prefix.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, made: prometheus::Result<M>) -> Result<M> {
        let fault = |error: prometheus::Error| Error::internal("a metric cannot be registered", error);
        let metric = made.map_err(fault)?;
        self.0.register(Box::new(metric.clone())).map_err(fault)?;
        Ok(metric)
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("mcp_manager_{name}"), help)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.register(IntCounter::with_opts(Self::opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.register(IntCounterVec::new(Self::opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.register(IntGauge::with_opts(Self::opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> Result<HistogramVec> {
        let opts = HistogramOpts::new(format!("mcp_manager_{name}"), help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(opts, labels))
    }
}
