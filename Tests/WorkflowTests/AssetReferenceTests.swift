import OrderedCollections
import OrderedJSON
import Testing

@testable import Workflow

struct AssetReferenceTests {
    private static func reference(_ id: String) -> JSON { ["__type": "core/ASSET", "info": ["id": .string(id), "hash": "blake3:00", "file_path": "x.png"]] }

    private static func workflow(_ inputs: JSON) throws -> Workflow {
        try Workflow(checking: ["1": ["class_type": "LoadImage", "inputs": inputs], "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0]]]])
    }

    @Test func foundAnywhere() throws {
        let workflow = try Self.workflow([
            "image": Self.reference("a"), "list": [Self.reference("b"), 1, [Self.reference("c")]], "deep": ["x": ["y": Self.reference("a")]], "seed": 1,
        ])
        #expect(Array(workflow.referencedAssets) == ["a", "b", "c"])
    }

    @Test(
        arguments: [
            ["__type": "core/ASSET"], ["__type": "core/ASSET", "info": "a"], ["__type": "core/ASSET", "info": ["id": 1]], ["__type": "core/ASSET", "info": ["hash": "blake3:00"]],
        ] as [JSON])
    func withoutAnIDItIsNamedByItsText(value: JSON) throws {
        #expect(try Array(Self.workflow(["image": value]).referencedAssets) == [Name(value.text)])
    }

    @Test func otherObjectsAreNone() throws {
        #expect(try Self.workflow(["image": "x.png", "a": ["__type": "core/OTHER", "info": ["id": "a"]], "b": [:], "c": ["1", 0]]).referencedAssets.isEmpty)
    }

    @Test func replacedWithNamesAndNothingElseChanged() throws {
        let workflow = try Self.workflow([
            "image": Self.reference("a"), "seed": .number(JSONNumber(literal: "18446744073709551615")), "list": [Self.reference("b")], "mask": "m.png", "strength": .number(JSONNumber(literal: "0.10")),
        ])
        let text = try workflow.text(with: [.reference(id: "a"): "a.png", .reference(id: "b"): "s/b.png [output]", .input(node: "1", name: "mask"): "m (1).png"])
        #expect(
            String(decoding: text, as: UTF8.self)
                == #"{"1":{"class_type":"LoadImage","inputs":{"image":"a.png","seed":18446744073709551615,"list":["s/b.png [output]"],"mask":"m (1).png","strength":0.10}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}"#)
        #expect(try workflow.text(with: [:]) == workflow.text)
    }
}
