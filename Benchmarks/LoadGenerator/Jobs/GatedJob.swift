import OrderedCollections
import OrderedJSON

/// A job of a bridge that starts when it is told to: another one, which only waits, goes before it.
final class GatedJob {
    /// The path of its event stream.
    let events: String
    private let connection: HTTPConnection
    private let waitingJob: String
    private let cancelPath: String

    private init(events: String, cancelPath: String, waitingJob: String, _ connection: HTTPConnection) {
        self.events = events
        self.cancelPath = cancelPath
        self.waitingJob = waitingJob
        self.connection = connection
    }

    /// - Parameter connection: kept until the job has started.
    static func submit(_ graph: JSON, over connection: HTTPConnection) async throws -> GatedJob {
        let waiting = try await submit(JobTemplate(.delay(milliseconds: 86_400_000)).json(seed: 0), connection)
        let job = try await submit(graph, connection)
        return GatedJob(events: try link("events", job), cancelPath: try link("cancel", job), waitingJob: try link("cancel", waiting), connection)
    }

    func start() async throws { try await cancel(waitingJob) }

    func cancel() async throws {
        try await cancel(cancelPath)
        try await cancel(waitingJob)
    }

    private func cancel(_ path: String) async throws {
        let answer = try await connection.send("POST", path)
        guard 200..<300 ~= answer.status || answer.status == 409 else { throw ProtocolViolation("cancel: status \(answer.status): \(answer.text)") }
    }

    private static func submit(_ graph: JSON, _ connection: HTTPConnection) async throws -> JSON {
        let fields = [("Content-Type", "application/json"), ("Prefer", "respond-async")]
        let answer = try await connection.send("POST", connection.target.path + "/run", fields, body: graph.encoded())
        guard answer.status == 202 else { throw ProtocolViolation("submit: status \(answer.status): \(answer.text)") }
        return try JSON(parsing: answer.body)
    }

    private static func link(_ name: String, _ job: JSON) throws -> String {
        guard let link = job["urls"]?[name]?.string else { throw ProtocolViolation("a job without a link '\(name)'") }
        return Target.path(of: link)
    }
}
