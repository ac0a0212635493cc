import Jobs
import Wording

/// What is only looked up when somebody asks for the metrics.
struct MetricsReport: Sendable {
    struct ComfyUI: Sendable {
        let url: String
        let isConnected: Bool
        let isInRotation: Bool
        let reconnects: Int
        let openPrompts: Int
        /// How long no message came about the open prompt of which it is longest.
        let silence: Duration
    }

    let version: String
    /// Jobs that are not over.
    let jobs: [JobStatus: Int]
    let queueDepth: Int
    let queueLimit: Int
    let comfyUIs: [ComfyUI]
    let usage: ProcessUsage

    func text(_ metrics: Metrics, requests: [RequestCounts.Reading], openConnections: Int) -> String {
        var text = PrometheusText()
        text.metric("comfy_bridge_build_info", .gauge, "The version that runs; always 1.")
        text.sample("comfy_bridge_build_info", ["version": version], 1)
        jobs(metrics, &text)
        comfyUIs(metrics, &text)
        viewers(metrics, &text)
        http(requests, openConnections, &text)
        process(&text)
        return text.text
    }

    private func jobs(_ metrics: Metrics, _ text: inout PrometheusText) {
        text.metric("comfy_bridge_jobs", .gauge, "Jobs that are not over, by status.")
        for status in JobStatus.allCases where !status.isTerminal { text.sample("comfy_bridge_jobs", ["status": status.rawValue], jobs[status] ?? 0) }
        text.single("comfy_bridge_queue_depth", .gauge, "Jobs that wait in the bridge for a ComfyUI.", queueDepth)
        text.single("comfy_bridge_queue_limit", .gauge, "How many may wait (--queue-limit).", queueLimit)
        text.single("comfy_bridge_jobs_submitted_total", .counter, "Jobs that were accepted.", metrics.submitted.value)
        text.metric("comfy_bridge_jobs_ended_total", .counter, "Jobs that ended, by status and by the code of their error, which is empty without one.")
        var ends = metrics.endCounts
        // Those that alerts look for are there from the beginning.
        for status in [JobStatus.succeeded, .failed, .canceled] where !ends.keys.contains(where: { $0.status == status }) {
            ends[.init(status: status, code: status == .succeeded ? nil : status == .failed ? .nodeExecutionError : .canceled)] = 0
        }
        for (end, count) in ends.sorted(by: { $0.key.order < $1.key.order }) {
            text.sample("comfy_bridge_jobs_ended_total", ["status": end.status.rawValue, "code": end.code?.rawValue ?? ""], count)
        }
        text.single(
            "comfy_bridge_jobs_returned_total", .counter, "Jobs that went back into the queue, since ComfyUI could not be given them or lost them.",
            metrics.returned.value)
        text.metric("comfy_bridge_job_queue_seconds", .histogram, "Time from the submission of a job to the start of its execution, of jobs that are over.")
        text.samples("comfy_bridge_job_queue_seconds", of: metrics.queueTime)
        text.metric("comfy_bridge_job_execution_seconds", .histogram, "Time from the start of the execution to the end of the job.")
        text.samples("comfy_bridge_job_execution_seconds", of: metrics.executionTime)
        text.metric(
            "comfy_bridge_overhead_seconds", .histogram,
            "Time that the bridge adds: accept (request to queue), hand_over (queue to ComfyUI's answer), finish (ComfyUI's last message to the end of the job).")
        for phase in Metrics.Overhead.allCases {
            if let histogram = metrics.overhead[phase] { text.samples("comfy_bridge_overhead_seconds", ["phase": phase.rawValue], of: histogram) }
        }
    }

    private func comfyUIs(_ metrics: Metrics, _ text: inout PrometheusText) {
        func each(_ name: String, _ kind: PrometheusText.Kind, _ help: String, _ value: (ComfyUI) -> Int) {
            text.metric(name, kind, help)
            for comfyUI in comfyUIs { text.sample(name, ["url": comfyUI.url], value(comfyUI)) }
        }
        each("comfy_bridge_comfyui_connected", .gauge, "Whether the event socket to this ComfyUI is connected.") { $0.isConnected ? 1 : 0 }
        each("comfy_bridge_comfyui_in_rotation", .gauge, "0 after a fault that would hit the next job too, until a job has succeeded again.") {
            $0.isInRotation ? 1 : 0
        }
        each("comfy_bridge_comfyui_reconnects_total", .counter, "Connections of the event socket after the first one.") { $0.reconnects }
        each("comfy_bridge_comfyui_open_prompts", .gauge, "Jobs that are inside this ComfyUI.") { $0.openPrompts }
        text.metric("comfy_bridge_comfyui_silent_seconds", .gauge, "How long no message came about the open prompt that is silent for longest.")
        for comfyUI in comfyUIs { text.sample("comfy_bridge_comfyui_silent_seconds", ["url": comfyUI.url], comfyUI.silence.seconds) }
        text.metric("comfy_bridge_reconciliations_total", .counter, "How often queue and history of a ComfyUI were asked about a job, by reason.")
        for reason in Metrics.ReconciliationReason.allCases {
            text.sample("comfy_bridge_reconciliations_total", ["reason": reason.rawValue], metrics.reconciliations[reason].value)
        }
        text.single("comfy_bridge_previews_total", .counter, "Previews that ComfyUI sent.", metrics.previews.value)
        text.metric(
            "comfy_bridge_unknown_messages_total", .counter,
            "Messages of ComfyUI that the bridge has no event for: text and binary of types that it does not know, and unreadable ones.")
        for kind in Metrics.UnknownMessage.allCases {
            text.sample("comfy_bridge_unknown_messages_total", ["kind": kind.rawValue], metrics.unknownMessages[kind].value)
        }
        text.single(
            "comfy_bridge_unknown_messages_dropped_total", .counter, "Those of unknown types that belong to no job, or came too fast to be passed on.",
            metrics.unknownMessagesDropped.value)
    }

    private func viewers(_ metrics: Metrics, _ text: inout PrometheusText) {
        text.single("comfy_bridge_viewers", .gauge, "Event streams that are open.", metrics.viewers.count)
        text.single(
            "comfy_bridge_previews_dropped_total", .counter, "Previews that viewers did not get since newer ones had replaced them.",
            metrics.viewers.droppedPreviews)
        text.metric("comfy_bridge_received_bytes_total", .counter, "Bytes of previews from ComfyUI and of uploads from callers.")
        for kind in Metrics.Received.allCases { text.sample("comfy_bridge_received_bytes_total", ["kind": kind.rawValue], metrics.received[kind].value) }
        text.metric("comfy_bridge_sent_bytes_total", .counter, "Bytes of event streams, of previews by their own URL, and of assets, as answered to callers.")
        text.sample("comfy_bridge_sent_bytes_total", ["kind": "events"], metrics.viewers.sentBytes)
        for kind in Metrics.Sent.allCases { text.sample("comfy_bridge_sent_bytes_total", ["kind": kind.rawValue], metrics.sent[kind].value) }
    }

    private func http(_ requests: [RequestCounts.Reading], _ openConnections: Int, _ text: inout PrometheusText) {
        text.metric("comfy_bridge_http_requests_total", .counter, "Requests that were answered, by route, method and status.")
        for row in requests {
            text.sample("comfy_bridge_http_requests_total", ["route": row.route, "method": row.method, "status": row.status], row.count)
        }
        text.single("comfy_bridge_http_connections", .gauge, "Connections of callers that are open, idle ones included.", openConnections)
    }

    /// Under the names that Prometheus' own clients have for the same.
    private func process(_ text: inout PrometheusText) {
        func integer(_ name: String, _ help: String, _ value: Int?) {
            if let value { text.single(name, .gauge, help, value) }
        }
        if let seconds = usage.processorTime {
            text.metric("process_cpu_seconds_total", .counter, "Processor time in user mode and in the kernel.")
            text.sample("process_cpu_seconds_total", [:], seconds)
        }
        integer("process_resident_memory_bytes", "Memory of the process that is in RAM.", usage.residentMemory)
        integer("process_virtual_memory_bytes", "Address space of the process.", usage.virtualMemory)
        integer("process_open_fds", "Open descriptors.", usage.openDescriptors)
        integer("process_max_fds", "How many descriptors may be open.", usage.descriptorLimit)
        if let start = usage.startTime {
            text.metric("process_start_time_seconds", .gauge, "When the process was started, in seconds since 1970.")
            text.sample("process_start_time_seconds", [:], start)
        }
    }
}

extension Metrics.End {
    fileprivate var order: (String, String) { (status.rawValue, code?.rawValue ?? "") }
}
