import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Does against the simulator what the recorded client did, waiting at each step until each socket has received as many messages as the
/// recorded one had by then, and returns both sides of the conversation, normalized.
struct Replay {
    struct Exchange: Equatable, CustomStringConvertible {
        let request: String
        let status: Int
        let contentType: String?
        /// What a browser is told about a file, of those that were recorded.
        let fileHeaders: [String]
        let body: String

        static let fileHeaders = ["content-disposition", "x-content-type-options", "cache-control", "vary"]

        var description: String { "\(request) → \(status) \(contentType ?? "-") \(fileHeaders) \(body)" }
    }

    struct Transcript {
        /// Lines by connection label.
        var sockets: OrderedDictionary<String, [String]> = [:]
        var exchanges: [Exchange] = []
        var names = Normalizer()
        var messages: OrderedDictionary<String, [SocketMessage]> = [:]

        /// JSON normalized, other text as it is, no bytes of pictures.
        func text(_ body: [UInt8]) -> String {
            if let json = try? JSON(parsing: body, lenient: true) { return names.normalized(RecordedGraph.translated(json)).text }
            return String(validating: body, as: UTF8.self) ?? "<bytes>"
        }
    }

    private(set) var recorded = Transcript()
    private(set) var simulated = Transcript()
    private var clients: [String: SocketClient] = [:]
    private let server: TestServer
    private let compatibility: ComfySimulator.Compatibility
    /// Multiplies the recorded waiting times of test nodes.
    private let timeScale: Double
    /// Validators of the last file, ours for theirs.
    private var validators: [String: String] = [:]

    init(_ recording: Recording, against server: TestServer, timeScale: Double = 1) async throws {
        self.server = server
        compatibility = .of(recording.name)
        self.timeScale = timeScale
        let answers = Dictionary(
            recording.events.filter { $0.event == "http_response" }.map { ($0["id"]?.int ?? 0, $0) }, uniquingKeysWith: { $1 })
        for event in recording.events {
            switch event.event {
            case "ws_open": try await open(event)
            case "ws_send": try await clients[event["conn"]?.string ?? ""]?.send(event["text"]?.string ?? "")
            case "ws_close":
                try await catchUp()
                try await clients[event["conn"]?.string ?? ""]?.close()
            case "ws_recv": recorded.messages[event["conn"]?.string ?? "", default: []].append(event.recordedMessage)
            case "http_request":
                try await catchUp()
                if let answer = answers[event["id"]?.int ?? 0] { try await exchange(event, answer) }
            default: break
            }
        }
        recorded.sockets = recorded.messages.mapValues { [names = recorded.names] in $0.map(names.line) }
        simulated.sockets = simulated.messages.mapValues { [names = simulated.names] in $0.map(names.line) }
    }

    private mutating func open(_ event: JSON) async throws {
        let label = event["conn"]?.string ?? ""
        let query = (event["query"]?.object ?? [:]).map { "\($0.key)=\($0.value.string ?? "")" }.joined(separator: "&")
        clients[label] = try await SocketClient.connect(port: server.port, path: "/ws?" + query)
    }

    /// Until no socket is behind the recording.
    private mutating func catchUp() async throws {
        for (label, client) in clients {
            while simulated.messages[label, default: []].count < recorded.messages[label, default: []].count {
                guard let message = await client.next() else {
                    Issue.record("socket \(label) ended early")
                    return
                }
                simulated.messages[label, default: []].append(message)
            }
        }
    }

    private mutating func exchange(_ request: JSON, _ recordedAnswer: JSON) async throws {
        let method = request["method"]?.string ?? "", path = request["path"]?.string ?? ""
        var headers = HTTPHeaders()
        for (name, value) in request["headers"]?.object ?? [:] {
            let value = (value.string ?? "").replacing(/:8[12]90/, with: ":\(server.port)")  // where the recorded servers listened
            headers.add(name: name, value: validators[value] ?? value)
        }
        var body = request.recordedBody
        if let json = try? JSON(parsing: body, lenient: true) {
            body = Array(ours(scaled(RecordedGraph.translated(json)).text).utf8)
        }
        let answer = try await server.request(
            HTTPMethod(rawValue: method), target(path, request["query"]), headers, body.isEmpty ? nil : body)
        let recordedBody = recordedAnswer.recordedBody
        for name in ["etag", "last-modified"] {
            if let theirs = recordedAnswer["headers"]?[name]?.string, let ours = answer.header(name) { validators[theirs] = ours }
        }
        if path == "/prompt", method == "POST" {
            if let id = (try? JSON(parsing: recordedBody))?["prompt_id"]?.string { recorded.names.add(promptID: id) }
            if let id = answer.json["prompt_id"]?.string { simulated.names.add(promptID: id) }
        }
        let isFile = path.hasSuffix("/view") && compatibility >= .v0_33_0
        let names = isFile ? Exchange.fileHeaders : []
        let label = "\(request["id"]?.int ?? 0) \(method) \(path) \(request["query"]?.text ?? "")"
        recorded.exchanges.append(
            Exchange(
                request: label, status: recordedAnswer["status"]?.int ?? 0, contentType: recordedAnswer["headers"]?["content-type"]?.string,
                fileHeaders: names.map { recorded.names.fileName(recordedAnswer["headers"]?[$0]?.string ?? "-") },
                body: recorded.text(recordedBody)))
        simulated.exchanges.append(
            Exchange(
                request: label, status: answer.status, contentType: answer.header("content-type"),
                fileHeaders: names.map { simulated.names.fileName(answer.header($0) ?? "-") }, body: simulated.text(answer.body)))
    }

    /// Path and query, with the ids of this run.
    private func target(_ path: String, _ query: JSON?) -> String {
        let path = ours(path)
        let pairs = (query?.object ?? [:]).map { name, value in
            "\(name)=\((value.string ?? "").addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")"
        }
        return pairs.isEmpty ? path : path + "?" + pairs.joined(separator: "&")
    }

    private func ours(_ text: String) -> String {
        zip(recorded.names.ids, simulated.names.ids).reduce(text) { $0.replacing($1.0, with: $1.1) }
    }

    private func scaled(_ json: JSON) -> JSON {
        switch json {
        case .array(let elements): return .array(elements.map(scaled))
        case .object(let members):
            return .object(
                JSONObject(
                    uniqueKeysWithValues: members.map { key, value in
                        if key == "milliseconds", let time = value.double, timeScale != 1 { return (key, JSON(Int(time * timeScale))) }
                        return (key, scaled(value))
                    }))
        case .null, .bool, .number, .string: return json
        }
    }
}

/// Fails with the first place where the sequences differ.
func expectSame<Element: Equatable>(
    _ simulated: [Element], _ recorded: [Element], _ label: String, sourceLocation: SourceLocation = #_sourceLocation
) {
    for index in 0..<max(simulated.count, recorded.count) {
        let ours = index < simulated.count ? "\(simulated[index])" : "nothing",
            theirs = index < recorded.count ? "\(recorded[index])" : "nothing"
        guard ours != theirs else { continue }
        let place = max(0, zip(ours, theirs).prefix { $0 == $1 }.count - 60)
        Issue.record(
            """
            \(label), number \(index): \(ours.prefix(120))
              simulated …\(ours.dropFirst(place).prefix(400))
              recorded  …\(theirs.dropFirst(place).prefix(400))
            """, sourceLocation: sourceLocation)
        return
    }
}
