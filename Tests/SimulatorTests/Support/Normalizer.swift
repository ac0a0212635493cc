import OrderedCollections
import OrderedJSON

/// Makes traffic of two servers comparable: ids by order of submission, no clocks, no counters, no server's own texts.
struct Normalizer {
    private var names: OrderedDictionary<String, String> = [:]
    /// In order of submission.
    var ids: [String] { Array(names.keys) }

    /// The id of the prompt that was submitted next.
    mutating func add(promptID: String) {
        if names[promptID] == nil { names[promptID] = "prompt \(names.count + 1)" }
    }

    func line(_ message: SocketMessage) -> String {
        switch message {
        case .text(let json):
            return json["type"] == "logs" ? "logs" : normalized(RecordedGraph.translated(json)).text
        case .binary(let bytes):
            guard bytes.count >= 8 else { return "binary \(bytes)" }
            switch bytes[3] {
            case 4:
                let length = bytes[4..<8].reduce(0) { $0 << 8 | Int($1) }
                let metadata = (try? JSON(parsing: bytes[8..<8 + length])) ?? .null
                return "binary 4 " + normalized(metadata).text
            case 1: return "binary 1 format \(bytes[7])"
            default: return "binary \(bytes)"
            }
        case .close(let code): return "close \(code)"
        case .pong: return "pong"
        }
    }

    func normalized(_ json: JSON, key: String = "") -> JSON {
        switch key {
        case "timestamp", "create_time", "execution_start_time", "execution_end_time", "number", "priority":
            if case .number = json { return 0 }
        case "traceback":
            return "…"
        case "current_inputs":
            return .array((json.object?.keys.sorted() ?? []).map(JSON.string))
        case "outputs" where json.object != nil, "meta":  // a Python set decides the order of independent nodes
            return .object(
                JSONObject(uniqueKeysWithValues: (json.object ?? [:]).map { ($0.key, normalized($0.value)) }.sorted { $0.0 < $1.0 }))
        case "sid" where json.string?.wholeMatch(of: /[0-9a-f]{32}/) != nil:
            return "random"
        case "executed", "current_outputs", "dependent_outputs":
            return .array((json.array ?? []).sorted { $0.text < $1.text })
        default: break
        }
        switch json {
        case .array(let elements):
            // [number, prompt id, graph, extra data, outputs]
            if elements.count == 5, let id = elements[1].string, names[id] != nil {
                return .array([
                    0, .string(names[id] ?? ""), normalized(elements[2]), normalized(elements[3]),
                    .array(elements[4].array?.sorted { $0.text < $1.text } ?? []),
                ])
            }
            return .array(elements.map { normalized($0) })
        case .object(let members):
            return .object(JSONObject(members.map { (names[$0.key] ?? $0.key, normalized($0.value, key: $0.key)) }) { $1 })
        case .string(let text): return .string(names[text] ?? fileName(text))
        case .null, .bool, .number: return json
        }
    }

    /// Without counter and random letters.
    func fileName(_ text: String) -> String {
        text.replacing(/ComfyUI_temp_[a-z]{5}_/, with: "ComfyUI_temp_?_").replacing(/_\d{5}_\./, with: "_#_.")
    }
}
