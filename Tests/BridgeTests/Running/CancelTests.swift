import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import TestSupport

/// What is canceled leaves ComfyUI, by whichever way its version has.
@Suite(.timeLimit(.minutes(5))) struct CancelTests {
    @Test(arguments: ComfySimulator.Compatibility.allCases)
    func whatRunsAndWhatWaits(_ version: ComfySimulator.Compatibility) async throws {
        try await withBridge(simulator: { $0.compatibility = version }) { bridge, simulator in
            var ids: [String] = []
            for seed in 1...3 { ids.append(try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: seed))) }
            try await simulator.accepted(2)
            // The waiting one first, so that it never starts; then the one that runs.
            for id in [ids[1], ids[0]] {
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
                #expect(try await bridge.events(of: id).last?.json["status"] == "canceled")
            }
            // The interrupt did not hit the one after them.
            try await bridge.events(of: ids[2]) { $0.json["status"] == "running" }
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(ids[2])/cancel")
            #expect(try await bridge.run(Graph.picture()).status == 200)
            let counts = simulator.statistics.prompts
            #expect(counts[ids[1]].map { $0.removed == 1 && $0.started == 0 } ?? true)
            #expect(counts[ids[0]]?.started == 1 && counts[ids[0]]?.finished == 1)
            #expect(counts[ids[2]]?.started == 1)
        }
    }

    /// ComfyUI says that it has canceled, and goes on for as long as its node does not look.
    @Test(arguments: ComfySimulator.Compatibility.allCases)
    func whatDoesNotStopAtOnce(_ version: ComfySimulator.Compatibility) async throws {
        try await withBridge(simulator: { $0.compatibility = version }) { bridge, simulator in
            let graph: JSON = [
                "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": 1, "color": 1]],
                "2": ["class_type": "SimDelay", "inputs": ["image": ["1", 0], "milliseconds": 6000, "interruptible": false]],
                "3": ["class_type": "SaveImage", "inputs": ["images": ["2", 0], "filename_prefix": "d"]],
            ]
            let id = try await bridge.submit(graph)
            // From the first event on: the present does not tell of nodes.
            try await bridge.events(of: id, query: "?last_event_id=0") { $0.json["node_id"] == "2" }
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
            let last = try await bridge.events(of: id).last?.json["status"]
            #expect(last == "canceled")
            #expect(simulator.statistics.prompts[id]?.started == 1)
            #expect(try await bridge.run(Graph.picture(seed: 7)).status == 200)
        }
    }
}
