import NIOCore
import OrderedCollections
import OrderedJSON

/// A job of a bridge that starts when it is told to: another one, which only waits, goes before it. That one belongs to its caller's connection,
/// so it goes away with the generator, however that ends.
final class GatedJob {
    /// The path of its event stream.
    let events: String
    private let gate: HTTPConnection
    private let control: HTTPConnection
    private let cancelPath: String

    private init(events: String, cancelPath: String, gate: HTTPConnection, control: HTTPConnection) {
        self.events = events
        self.cancelPath = cancelPath
        self.gate = gate
        self.control = control
    }

    static func submit(_ graph: JSON, to target: Target, on loop: any EventLoop) async throws -> GatedJob {
        let gate = HTTPConnection(target, on: loop), control = HTTPConnection(target, on: loop)
        let json = ("Content-Type", "application/json"), path = target.path + "/run"
        let waiting = try await gate.open(
            "POST", path, [json, ("Accept", "text/event-stream")], body: JobTemplate(.delay(milliseconds: 86_400_000)).graph(seed: 0))
        guard waiting.status == 200 else { throw ProtocolViolation("submit: status \(waiting.status)") }
        let answer = try await control.send("POST", path, [json, ("Prefer", "respond-async")], body: graph.encoded())
        guard answer.status == 202 else { throw ProtocolViolation("submit: status \(answer.status): \(answer.text)") }
        let job = try JSON(parsing: answer.body)
        return GatedJob(events: try link("events", job), cancelPath: try link("cancel", job), gate: gate, control: control)
    }

    func start() { gate.close() }

    /// Ends it wherever it is.
    func cancel() async throws {
        let answer = try await control.send("POST", cancelPath)
        gate.close()
        control.close()
        guard 200..<300 ~= answer.status || answer.status == 409 else { throw ProtocolViolation("cancel: status \(answer.status): \(answer.text)") }
    }

    private static func link(_ name: String, _ job: JSON) throws -> String {
        guard let link = job["urls"]?[name]?.string else { throw ProtocolViolation("a job without a link '\(name)'") }
        return Target.path(of: link)
    }
}
