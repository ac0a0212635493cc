import OrderedCollections
import OrderedJSON
import Testing

@testable import Workflow

@Suite struct WorkflowTests {
    @Test(
        "What would harm ComfyUI is refused",
        arguments: [
            (#"[]"#, "notAGraph"), (#""x""#, "notAGraph"), (#"null"#, "notAGraph"),
            (#"{}"#, "prompt_no_outputs"),
            (#"{"nodes": [], "links": []}"#, "editorFormat"), (#"{"id": "x", "nodes": [], "version": 0.4}"#, "editorFormat"),
            (#"{"1": []}"#, "invalid_node"), (#"{"1": null}"#, "invalid_node"), (#"{"1": "x"}"#, "invalid_node"),
            (#"{"1": {"inputs": {}}}"#, "missing_class_type"), (#"{"1": {"class_type": 5, "inputs": {}}}"#, "missing_class_type"),
            (#"{"1": {"class_type": "", "inputs": {}}}"#, "missing_class_type"),
            (#"{"1": {"class_type": "A"}}"#, "missing_inputs"), (#"{"1": {"class_type": "A", "inputs": null}}"#, "missing_inputs"),
            (#"{"1": {"class_type": "A", "inputs": []}}"#, "missing_inputs"),
        ])
    func refused(_ text: String, _ reason: String) throws {
        let graph = try JSON(parsing: text)
        #expect {
            _ = try Workflow(checking: graph)
        } throws: { error in
            switch error as? WorkflowError {
            case .notAGraph: reason == "notAGraph"
            case .editorFormat: reason == "editorFormat"
            case .invalid(let faults): faults.map(\.reason) == [reason] && faults.allSatisfy { $0.message.hasSuffix(".") }
            case nil: false
            }
        }
    }

    @Test func everyFaultIsNamed() throws {
        let graph = try JSON(parsing: #"{"1": {"inputs": {}}, "2": 5, "3": {"class_type": "A", "inputs": {}}}"#)
        #expect {
            _ = try Workflow(checking: graph)
        } throws: { error in
            guard case .invalid(let faults)? = error as? WorkflowError else { return false }
            return faults.map(\.node) == ["1", "2"]
        }
    }

    @Test func theGraphIsKeptToTheDigit() throws {
        let text = #"{"9":{"class_type":"K","inputs":{"seed":18446744073709551615,"cfg":8.0,"model":["4",0]},"_meta":{"title":"T"},"extra":[1.50]},"4":{"class_type":"L","inputs":{}}}"#
        let workflow = try Workflow(checking: JSON(parsing: text))
        #expect(String(decoding: workflow.text, as: UTF8.self) == text)
        #expect(workflow.nodes["9"]?.links == [.init(input: "model", source: "4", output: 0)])
        #expect(workflow.nodes["9"]?.title == "T")
        #expect(workflow.reachable(from: ["9"]) == ["9", "4"])
        #expect(workflow.reachable(from: ["4"]) == ["4"])
    }
}

@Suite struct NodeCatalogTests {
    static let catalog: NodeCatalog = {
        let info: JSON = [
            "Load": ["input": ["required": ["image": [["a.png"], ["image_upload": true]]]], "output": ["IMAGE", "MASK"], "output_node": false],
            "Scale": ["input": ["required": ["image": ["IMAGE"], "width": ["INT", ["min": 0]]], "optional": ["mask": ["MASK"]]], "output": ["IMAGE"]],
            "Save": ["input": ["required": ["images": ["IMAGE"]], "hidden": ["prompt": "PROMPT"]], "output": [], "output_node": true],
            "Grow": ["input": ["required": ["items": ["COMFY_AUTOGROW_V3", [:]]]], "output": [], "output_node": true],
        ]
        return NodeCatalog(objectInfo: info.object!)
    }()

    private func faults(_ text: String) throws -> WorkflowFaults {
        Self.catalog.faults(in: try Workflow(checking: JSON(parsing: text)))
    }

    @Test(
        "Common mistakes are found before ComfyUI sees them",
        arguments: [
            (#"{"1": {"class_type": "Nope", "inputs": {}}}"#, ["1 class_type missing_node_type"]),
            (#"{"1": {"class_type": "Load", "inputs": {"image": "a.png"}}}"#, ["- - prompt_no_outputs"]),
            (#"{"1": {"class_type": "Save", "inputs": {}}}"#, ["1 images required_input_missing"]),
            (#"{"1": {"class_type": "Save", "inputs": {"images": ["7", 0]}}}"#, ["1 images bad_linked_input"]),
            (#"{"1": {"class_type": "Load", "inputs": {"image": "a.png"}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 2]}}}"#, ["2 images bad_linked_input"]),
            (#"{"1": {"class_type": "Load", "inputs": {"image": "a.png"}}, "2": {"class_type": "Save", "inputs": {"images": [1, 0]}}}"#, ["2 images bad_linked_input"]),
            (#"{"1": {"class_type": "Load", "inputs": {"image": "../out/a.png"}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}}}"#, ["1 image unsafe_path"]),
            (#"{"1": {"class_type": "Load", "inputs": {"image": "/etc/a.png"}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}}}"#, ["1 image unsafe_path"]),
            (#"{"1": {"class_type": "Load", "inputs": {"image": "C:\\a.png"}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}}}"#, ["1 image unsafe_path"]),
            (
                #"{"1": {"class_type": "Scale", "inputs": {"image": ["2", 0]}}, "2": {"class_type": "Load", "inputs": {}}, "3": {"class_type": "Save", "inputs": {"images": ["1", 0]}}}"#,
                ["1 width required_input_missing", "2 image required_input_missing"]
            ),
        ])
    func found(_ text: String, _ expected: [String]) throws {
        #expect(try faults(text).map { "\($0.node ?? "-") \($0.field ?? "-") \($0.reason)" } == expected)
    }

    @Test func aLinkWithANumberIsToldHowToBeWritten() throws {
        let fault = try #require(
            faults(#"{"1": {"class_type": "Load", "inputs": {"image": "a.png"}}, "2": {"class_type": "Save", "inputs": {"images": [1, 0]}}}"#).first)
        #expect(fault.message == #"Node '2' (Save): input 'images' is linked to node 1 by a number; ids of nodes are strings: write ["1", 0]."#)
    }

    @Test(
        "What ComfyUI would run passes",
        arguments: [
            #"{"1": {"class_type": "Load", "inputs": {"image": "sub/a..b.png"}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}}}"#,
            // A node that no output needs is not checked.
            #"{"1": {"class_type": "Load", "inputs": {"image": "a.png"}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 1]}}, "3": {"class_type": "Scale", "inputs": {}}}"#,
            // Inputs that grow at run time are ComfyUI's to judge.
            #"{"1": {"class_type": "Grow", "inputs": {}}}"#,
            // Numbers that name no node, and inputs that the class does not have.
            #"{"1": {"class_type": "Load", "inputs": {"image": "a.png"}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0], "size": [1, 0]}}}"#,
            #"{"1": {"class_type": "Load", "inputs": {"image": [512, 512]}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}}}"#,
        ])
    func passes(_ text: String) throws {
        #expect(try faults(text) == [])
    }

    @Test func whatComfyUIReplacesIsLeftToIt() throws {
        let catalog = NodeCatalog(objectInfo: ["Save": ["input": ["required": ["images": ["IMAGE"]]], "output": [], "output_node": true]], replaced: ["Old"])
        let workflow = try Workflow(checking: JSON(parsing: #"{"1": {"class_type": "Old", "inputs": {}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 3]}}}"#))
        #expect(catalog.unknownClasses(in: workflow).isEmpty)
        #expect(catalog.faults(in: workflow) == [])
        let missing = try Workflow(checking: JSON(parsing: #"{"1": {"class_type": "Old", "inputs": {}}, "2": {"class_type": "Gone", "inputs": {}}}"#))
        #expect(catalog.faults(in: missing).map(\.node) == ["2"])
    }

    @Test func eachClassComesFromTheComfyUIThatHasIt() throws {
        let other = NodeCatalog(objectInfo: ["Nope": ["input": [:], "output": ["IMAGE"]]])
        let workflow = try Workflow(checking: JSON(parsing: #"{"1": {"class_type": "Nope", "inputs": {}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}}}"#))
        let both = NodeCatalog(of: workflow, from: [Self.catalog, other])
        #expect(both.faults(in: workflow) == [])
        #expect(both.outputNodes(of: workflow) == ["2"])
    }

    @Test func knowsOutputsAndUnknownClasses() throws {
        let workflow = try Workflow(checking: JSON(parsing: #"{"1": {"class_type": "Nope", "inputs": {}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}}}"#))
        #expect(Self.catalog.unknownClasses(in: workflow) == ["Nope"])
        #expect(Self.catalog.outputNodes(of: workflow) == ["2"])
        var newer = Self.catalog
        newer.add("Nope", ["input": [:], "output": ["IMAGE"]])
        #expect(newer.faults(in: workflow) == [])
    }
}
