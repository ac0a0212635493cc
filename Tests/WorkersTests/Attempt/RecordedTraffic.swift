import ComfyUI
import Foundation
import NIOCore
import OrderedCollections
import OrderedJSON

@testable import Jobs
@testable import Workers
@testable import Workflow

/// One recording of real ComfyUI traffic (Tests/ComfyUITests/Recordings), cut into what one prompt's owner sees.
struct RecordedTraffic {
    struct Line {
        let milliseconds: Double
        let event: JSON

        /// The binary frame of the line, if it has one.
        var binary: ComfyBinaryMessage? {
            get throws {
                guard let data = event["base64"]?.string.flatMap({ Data(base64Encoded: $0) }) else { return nil }
                return try ComfyBinaryMessage(parsing: ByteBuffer(bytes: data))
            }
        }
    }

    /// A prompt that ComfyUI accepted.
    struct Prompt {
        let id: String
        let clientID: String?
        let graph: JSON
        let postedAt: Double
    }

    let name: String
    let lines: [Line]

    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("ComfyUITests/Recordings")

    /// Paths below the folder, without the ending: `cached_full`, `v0.25/cached_full`, …
    static let names: [String] = {
        let files = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
        return files.filter { $0.hasSuffix(".jsonl") }.map { String($0.dropLast(6)) }.sorted()
    }()

    init(_ name: String) throws {
        self.name = name
        let text = try String(contentsOf: Self.folder.appendingPathComponent("\(name).jsonl"), encoding: .utf8)
        lines = try text.split(separator: "\n").map { line in
            let event = try JSON(parsing: String(line))
            return Line(milliseconds: event["ms"]?.double ?? 0, event: event)
        }
    }

    /// The accepted prompts, in the order of their answers; a repeated id once.
    var prompts: [Prompt] {
        var requests: [Int: Line] = [:]
        var found: OrderedDictionary<String, Prompt> = [:]
        for line in lines {
            switch line.event["ev"]?.string {
            case "http_request": requests[line.event["id"]?.int ?? -1] = line
            case "http_response" where line.event["status"]?.int == 200:
                guard let request = requests[line.event["id"]?.int ?? -1], request.event["method"] == "POST",
                    ["/prompt", "/api/prompt"].contains(request.event["path"]?.string ?? ""),
                    let body = try? JSON(parsing: request.event["body_text"]?.string ?? "", lenient: true),
                    let answer = try? JSON(parsing: line.event["body_text"]?.string ?? "", lenient: true), let id = answer["prompt_id"]?.string,
                    found[id] == nil
                else { continue }
                found[id] = Prompt(id: id, clientID: body["client_id"]?.string, graph: body["prompt"] ?? .null, postedAt: request.milliseconds)
            default: continue
            }
        }
        return Array(found.values)
    }

    /// The last history entry that the recording has of a prompt.
    func history(of prompt: Prompt) -> HistoryEntry? {
        for line in lines.reversed() where line.event["ev"] == "http_response" {
            guard let body = line.event["body_text"]?.string, body.contains(prompt.id), let answer = try? JSON(parsing: body, lenient: true),
                let entry = answer[prompt.id], let history = HistoryEntry(promptID: prompt.id, entry)
            else { continue }
            return history
        }
        return nil
    }

    /// What the prompt's execution did with everything that its client's sockets received, as the worker would hand it in.
    func replay(_ prompt: Prompt) throws -> Replay {
        let workflow = try Workflow(checking: prompt.graph)
        let outputNodes = Set(workflow.nodes.filter { $0.value.classType.hasPrefix("Save") || $0.value.classType.hasPrefix("Preview") }.keys)
        var sockets: Set<String> = []
        var isOpen = false
        for line in lines where line.milliseconds <= prompt.postedAt {
            if line.event["ev"] == "ws_open", line.event["query"]?["clientId"]?.string == prompt.clientID { sockets.insert(line.event["conn"]?.string ?? "") }
        }
        isOpen = !sockets.isEmpty
        var replay = Replay(execution: Execution(workflow: workflow, outputNodes: outputNodes))
        let history = history(of: prompt)
        for line in lines where line.milliseconds >= prompt.postedAt {
            let connection = line.event["conn"]?.string ?? ""
            switch line.event["ev"]?.string {
            case "ws_open" where line.event["query"]?["clientId"]?.string == prompt.clientID:
                if sockets.insert(connection).inserted, !isOpen || sockets.count > 1 { replay.execution.lostTouch() }
                isOpen = true
            case "ws_close" where sockets.contains(connection):
                replay.execution.lostTouch()
            case "ws_recv" where sockets.contains(connection):
                if let text = line.event["text"]?.string {
                    let message = try ComfyMessage(parsing: text)
                    guard message.promptID == nil || message.promptID == prompt.id else { continue }
                    replay.perform(replay.execution.received(message))
                } else if let message = try line.binary {
                    if case .preview(let frame) = message, let id = frame.metadata?.promptID, id != prompt.id { continue }
                    replay.perform(replay.execution.received(message))
                }
            default: continue
            }
            if replay.wantsHistory, replay.ending == nil, let history {
                replay.perform(replay.execution.reconciled(Reconciliation(of: prompt.id, queue: .empty, history: history)))
            }
        }
        // The socket never told the end: the watchdog asks.
        if replay.ending == nil, let history {
            replay.perform(replay.execution.reconciled(Reconciliation(of: prompt.id, queue: .empty, history: history)))
        }
        return replay
    }
}

/// The traces of one replayed execution.
struct Replay {
    var execution: Execution
    var ending: Execution.Ending?
    var starts = 0
    var wantsHistory = false
    var progress: [JobProgress] = []
    var nodes: [NodeEvent] = []
    var logs: [LogEntry] = []
    var natives = 0
    var previews = 0
    var captures = 0
    /// `node/type/subfolder/filename`, each once, as the collector has it.
    var files: OrderedSet<String> = []
    var texts: [String] = []
    /// Nodes with results that an earlier run made.
    var reusedNodes: OrderedSet<String> = []
    var effectsAfterEnd = 0

    mutating func perform(_ effects: [Execution.Effect]) {
        for effect in effects {
            if ending != nil { effectsAfterEnd += 1 }
            switch effect {
            case .started: starts += 1
            case .publish(.progress(let snapshot)): progress.append(snapshot)
            case .publish(.node(let node)): nodes.append(node)
            case .publish(.log(let entry)): logs.append(entry)
            case .publish(.comfyui): natives += 1
            case .publish: break
            case .preview: previews += 1
            case .capture: captures += 1
            case .collect(let output): collect(output)
            case .inquire: wantsHistory = true
            case .awaitEnd: break
            case .end(let ending): self.ending = ending
            }
        }
    }

    private mutating func collect(_ output: Execution.NodeOutput) {
        if output.isReused { reusedNodes.append(output.node) }
        for (key, value) in output.output {
            for item in value.array ?? [] {
                if let file = FileReference(item) {
                    files.append("\(output.node)/\(file.type)/\(file.subfolder)/\(file.filename)")
                } else if key == "text", let text = item.string {
                    texts.append(text)
                }
            }
        }
    }
}

extension QueueSnapshot {
    static var empty: QueueSnapshot { QueueSnapshot(running: [], pending: []) }
}
