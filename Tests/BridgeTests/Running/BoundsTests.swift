import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport

/// What a request may weigh, and what of it comes back.
@Suite(.timeLimit(.minutes(5))) struct BoundsTests {
    private static let pasted = String(repeating: "iVBORw0KGgo", count: 200_000)

    private static func node(_ name: String = "SaveImage", _ inputs: JSON = [:]) -> JSON { ["class_type": .string(name), "inputs": inputs] }

    /// A body, the status of its answer, and the code.
    private static func bodies() -> [(JSON, Int, String)] {
        let name = hostileLetter
        let good = Graph.picture()
        return [
            ([name: 1], 422, "invalid_request"), (["workflow": good, name: 1], 422, "invalid_request"),
            (["workflow": [name: node()]], 422, "invalid_workflow"), (["workflow": ["1": node(name)]], 422, "invalid_workflow"),
            (["workflow": ["1": node("SaveImage", [name: 1])]], 422, "invalid_workflow"),
            (["workflow": ["1": node("SaveImage", ["images": [.string(name), 0], "filename_prefix": "a"])]], 422, "invalid_workflow"),
            (["workflow": ["1": node("LoadImage", ["image": .string(name)])]], 422, "invalid_workflow"),
            (["workflow": ["1": node("LoadImage", ["image": ["__type": "core/ASSET", "info": ["id": .string(name)]]])]], 422, "missing_asset"),
            (["workflow": ["1": node("LoadImage", ["image": ["__type": .string(name), name: ["id": .string(name)]]])]], 422, "invalid_workflow"),
            (["workflow": good, "metadata": [name: .string(name)]], 422, "invalid_request"), (["workflow": good, "metadata": .string(name)], 422, "invalid_request"),
            (["workflow": good, "extra_data": [name: 1]], 422, "invalid_request"), (["workflow": good, "priority": .string(name)], 422, "invalid_request"),
            (["workflow": .string(name)], 422, "invalid_workflow"), (.string(name), 422, "invalid_request"),
        ]
    }

    @Test func textOfMegabytesCostsItsBytesAndIsNotRepeated() async throws {
        try await withBridge { bridge, simulator in
            for (body, status, code) in Self.bodies() {
                let answer = try await bridge.send(.POST, "/api/v2/jobs", body: body.encoded())
                #expect(answer.status == status && answer.errorCode == code, "\(String(decoding: answer.body, as: UTF8.self).excerptOfMessage)")
                #expect(answer.body.count < 4000)
            }
            let members: JSON = ["hash": .string(hostileLetter), hostileLetter: 1]
            #expect(try await bridge.send(.POST, "/api/v2/assets/from-hash", body: members.encoded()).status == 422)
        }
    }

    @Test func ofAThousandFaultsAHundredAreTold() async throws {
        try await withBridge { bridge, simulator in
            var nodes: JSONObject = ["0": Self.node("SaveImage", ["images": ["1", 0], "filename_prefix": "a"])]
            for number in 1...5000 { nodes["\(number)"] = ["inputs": [:]] }
            var answer = try await bridge.run(.object(nodes))
            #expect(answer.status == 422 && answer.body.count < 100_000)
            #expect(try answer.json["error"]?["details"]?["fault_count"] == 5000)
            #expect(try answer.json["error"]?["details"]?["node_errors"]?.object?.count == 100)
            #expect(try answer.json["error"]?["message"]?.string?.contains("5000 faults") == true)

            for number in 1...5000 { nodes["\(number)"] = Self.node("Unknown\(number)") }
            answer = try await bridge.run(.object(nodes))
            #expect(answer.status == 422 && answer.body.count < 100_000)
            #expect(try answer.json["error"]?["details"]?["fault_count"] == 5000)

            // Those that ComfyUI finds.
            nodes = [:]
            for number in 1...150 {
                nodes["\(number)"] = Self.node("EmptyImage", ["width": -1, "height": 8, "batch_size": 1, "color": 0])
                nodes["s\(number)"] = Self.node("SaveImage", ["images": [.string("\(number)"), 0], "filename_prefix": "a"])
            }
            answer = try await bridge.run(.object(nodes))
            #expect(answer.status == 422 && answer.body.count < 100_000)
            #expect(try answer.json["error"]?["details"]?["fault_count"] == 150)
            let id = try #require(answer.headers.first(name: "Comfy-Job-Id"))
            #expect(try await bridge.job(id)["error"]?["details"]?["node_errors"]?.object?.count == 100)
        }
    }

    @Test func jsonIsWeighedByItsValues() async throws {
        try await withBridge { bridge, simulator in
            for (unit, ends, path) in [("0,", "[]", "/run"), ("{},", "[]", "/api/v2/jobs"), ("[],", "[]", "/api/v2/assets/from-hash"), (#""a":0,"#, "{}", "/run")] {
                let body = Array((ends.prefix(1) + String(repeating: unit, count: 500_001).dropLast() + ends.suffix(1)).utf8)
                let answer = try await bridge.send(.POST, path, body: body)
                #expect(answer.status == 413 && answer.errorCode == "payload_too_large")
            }
            let long = try await bridge.send(.POST, "/run", body: Array("[\(String(repeating: "9", count: 2000))]".utf8))
            #expect(long.status == 400 && long.errorCode == "invalid_json")
        }
    }

    @Test func metadataHasALimitOfItsOwn() async throws {
        try await withBridge { bridge, simulator in
            func submit(_ bytes: Int) async throws -> RunningBridge.Answer {
                let text = String(repeating: "x", count: bytes - #"{"a":""}"#.utf8.count)
                return try await bridge.send(.POST, "/api/v2/jobs", body: (["workflow": Graph.picture(), "metadata": ["a": .string(text)]] as JSON).encoded())
            }
            let refused = try await submit(65_537)
            #expect(refused.status == 422 && refused.errorCode == "invalid_request")
            #expect(try refused.json["error"]?["details"]?["field"] == "metadata")
            let id = try #require(try await submit(65_536).json["id"]?.string)
            #expect(try await bridge.job(id)["metadata"]?["a"]?.string?.utf8.count == 65_528)
            let item = try #require(try await bridge.get("/api/v2/jobs").json["jobs"]?[0])
            #expect(item["metadata"] == .null && item["abridged"] == true && item["id"]?.string == id)
        }
    }

    @Test func aPastedFileIsNotRepeatedAndToBeUploaded() async throws {
        try await withBridge { bridge, simulator in
            for name in [Self.pasted, "data:image/png;base64,iVBORw0KGgo="] {
                let answer = try await bridge.run(["1": Self.node("LoadImage", ["image": .string(name)]), "2": Self.node("SaveImage", ["images": ["1", 0], "filename_prefix": "a"])])
                #expect(answer.status == 422 && answer.errorCode == "invalid_workflow" && answer.body.count < 2000)
                let fault = try answer.json["error"]?["details"]?["node_errors"]?["1"]?[0]
                #expect(fault?["reason"] == "not_a_file_name" && fault?["message"]?.string?.contains("Upload the file") == true)
            }
            // In what ComfyUI says of a run, too.
            let failed = try await bridge.run(Graph.fails("Invalid image file: \(Self.pasted)"))
            #expect(failed.status == 500 && failed.errorCode == "node_execution_error" && failed.body.count < 4000)
            #expect(try failed.json["error"]?["message"]?.string?.contains("Invalid image file: iVBORw0KGgo") == true)
            let id = try #require(failed.headers.first(name: "Comfy-Job-Id"))
            for path in ["/api/v2/jobs", "/api/v2/jobs/\(id)", "/api/v2/jobs/\(id)/why", "/api/v2/jobs/\(id)/events"] {
                #expect(try await bridge.get(path).body.count < 8000)
            }
        }
    }

    @Test func aPageOfTheListStaysSmall() async throws {
        try await withBridge { bridge, simulator in
            let text = String(repeating: "word ", count: 1000)
            let outputs: JSON = ["text": .array((1...100).map { .string("\($0) \(text)") }), "tables": .array((1...1000).map { ["row": JSON($0)] })]
            let answer = try await bridge.run(Graph.output(outputs))
            #expect(answer.status == 200)
            let id = try #require(answer.headers.first(name: "Comfy-Job-Id"))
            let job = try await bridge.job(id)
            #expect(job["outputs"]?.array?.count == 100 && job["other_outputs"]?["1"]?["tables"]?.array?.count == 1000 && job["abridged"] == nil)
            let page = try await bridge.get("/api/v2/jobs")
            #expect(page.body.count < 64_000)
            let item = try #require(try page.json["jobs"]?[0])
            #expect(item["outputs"]?.array?.count == 16 && item["other_outputs"] == [:] && item["abridged"] == true)
            #expect(item["outputs"]?[0]?["id"] == job["outputs"]?[0]?["id"] && (item["outputs"]?[0]?["text"]?.string?.utf8.count ?? 9999) < 2060)
            let names = try #require(job.object?.names)
            let listed = try #require(item.object?.names)
            #expect(names.isSubset(of: listed))
        }
    }

    /// As many as ComfyUI can be asked about in time on a starved machine; of tens of thousands `OutputListTests`.
    @Test func manyOutputsComeInTheirOrder() async throws {
        try await withBridge { bridge, simulator in
            let names = (1...200).map { "o\($0).png" }
            let files = JSON.array(names.map { ["filename": .string($0), "subfolder": "many", "type": "output"] })
            let answer = try await bridge.run(Graph.output(["images": files]))
            #expect(answer.status == 200)
            let outputs = try #require(try answer.json["outputs"]?.array)
            #expect(outputs.map { $0["name"]?.string } == names)
            #expect(outputs.allSatisfy { $0["size_bytes"] == 10 && $0["content_type"] == "image/png" })
            let id = try #require(answer.headers.first(name: "Comfy-Job-Id"))
            let events = try await bridge.events(of: id)
            #expect(events.filter { $0.name == "output" }.map { $0.json["name"]?.string } == names)
            let last = try #require(outputs.last?["id"]?.string)
            #expect(try await bridge.get("/api/v2/assets/\(last)/content").body.count == 10)
        }
    }
}
