import Logging
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

// Tests wait for what happens and measure no time: they are woken by what changed, and bounded by their time limit only.

extension ComfySimulator {
    /// Waits until the condition holds of what happened inside the simulator.
    ///
    /// - Parameter what: goes on "waited until …" when the test's time is up.
    func until(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: (Statistics) async throws -> Bool) async throws {
        try await waiting(until: what, sourceLocation) { try await until(condition) }
    }

    /// Waits until a prompt has begun to run.
    ///
    /// - Returns: its id; that of any of them where there are several.
    @discardableResult
    func firstRun(sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        var id: String?
        try await until("a prompt runs", sourceLocation: sourceLocation) { statistics in
            id = statistics.promptsRun.keys.first
            return id != nil
        }
        return try #require(id, sourceLocation: sourceLocation)
    }

    func accepted(_ count: Int, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await until("ComfyUI has accepted \(count) prompts", sourceLocation: sourceLocation) { $0.promptsAccepted >= count }
    }
}

extension RunningBridge {
    /// Waits until the condition holds of the bridge. It is looked at now, and whenever the bridge has logged something: a change of what it
    /// is and of where its jobs are is logged once it can be seen, at the level `debug` at least.
    ///
    /// What happens to one job is in its event stream, see `events(of:until:)`.
    func until(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: (RunningBridge) async throws -> Bool) async throws {
        try await waiting(until: what, sourceLocation) { try await changes.until { try await condition(self) } }
    }

    func untilReady(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await until("the bridge is ready", sourceLocation: sourceLocation) { try await $0.get("/readyz").status == 200 }
    }

    /// Until the only ComfyUI is connected, or is not.
    func until(isConnected: Bool, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await until("its ComfyUI is \(isConnected ? "" : "not ")connected", sourceLocation: sourceLocation) {
            try await $0.get("/readyz").json["comfyui"]?[0]?["connected"] == .bool(isConnected)
        }
    }

    /// Until the only ComfyUI gets no more jobs.
    func untilOutOfRotation(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await until("its ComfyUI is out of rotation", sourceLocation: sourceLocation) {
            try await $0.get("/readyz").json["comfyui"]?[0]?["in_rotation"] == false
        }
    }

    /// Until the job runs, as its viewers are told.
    func untilRunning(_ id: String) async throws { try await events(of: id, until: { $0.json["status"] == "running" }) }
}

/// Says what a test waited for when its time was up.
private func waiting(until what: String, _ sourceLocation: SourceLocation, _ wait: () async throws -> Void) async throws {
    do { try await wait() } catch {
        if Task.isCancelled { Issue.record("waited until \(what)", sourceLocation: sourceLocation) }
        throw error
    }
}

/// Passes on what a logger takes, and tells that there was something.
struct NotingLogHandler: LogHandler {
    private var handler: any LogHandler
    private let changes: Changes

    init(_ handler: any LogHandler, changes: Changes) {
        self.handler = handler
        self.changes = changes
    }

    /// Low enough for every change; the other handler gets what it wants.
    var logLevel: Logger.Level {
        get { min(handler.logLevel, .debug) }
        set { handler.logLevel = newValue }
    }
    var metadata: Logger.Metadata {
        get { handler.metadata }
        set { handler.metadata = newValue }
    }
    var metadataProvider: Logger.MetadataProvider? {
        get { handler.metadataProvider }
        set { handler.metadataProvider = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { handler[metadataKey: key] }
        set { handler[metadataKey: key] = newValue }
    }

    func log(event: LogEvent) {
        if event.level >= handler.logLevel { handler.log(event: event) }
        // The questions of those who wait are no news.
        if event.message != "answered a request", event.source != "MicroHTTP" { changes.note() }
    }
}
