import OrderedCollections
import OrderedJSON
import Wording

/// What an input has to do with files. ComfyUI itself confines names only in its newest versions, and node packs hardly ever (protocol section 14).
///
/// `/object_info` tells whole kinds: an upload option, a list of choices, a type of which a value is written by a widget. What it does not tell are
/// a few classes (the table) and strings, of which the input's name says whether they are paths.
enum FileUse: Sendable, Equatable {
    /// Names a file in ComfyUI's input folder that a loader reads. Names that a node makes cannot be checked and are refused.
    case file
    /// One of the values that ComfyUI offers, or whatever a class takes that checks them itself, as LoadLatent does. Those that are `offered` although
    /// they leave their folder are the operator's doing.
    case choice(offered: Set<Name>)
    /// A path as text: what to read, or where to write below ComfyUI's output folder. It may come from another node, for which ComfyUI answers.
    case path(isRead: Bool)

    /// Loaders of ComfyUI's own whose lists of files have no upload option.
    private static let files: Set<String> = ["LoadLatent.latent", "GeminiInputFiles.file", "OpenAIInputFiles.file"]
    /// Types whose values name files that the editor has uploaded.
    private static let fileTypes: Set<String> = ["WEBCAM", "AUDIO_RECORD", "LOAD_3D"]
    /// Types that ComfyUI converts to numbers.
    private static let numberTypes: Set<String> = ["INT", "FLOAT", "BOOLEAN"]

    /// Nil for an input that no file can hang on.
    init?(of input: String, in classType: String, isOutput: Bool, _ definition: JSON) {
        let options = definition[1]?.object ?? [:]
        let type = definition[0]?.string
        let isUpload = options.contains { $0.key.hasSuffix("_upload") && $0.value == true }
        if isUpload || FileUse.files.contains("\(classType).\(input)") || type.map(FileUse.fileTypes.contains) ?? false {
            self = .file
        } else if let choices = definition[0]?.array ?? (type == "COMBO" ? options["options"]?.array ?? [] : nil) {
            self = .choice(offered: Set(choices.compactMap(\.string).filter(\.leavesItsFolder).map { Name($0) }))
        } else {
            let types = Set((type ?? "").split(separator: ",").map { $0.trimmed })
            if !types.isDisjoint(with: ["STRING", "*", "", "COMFY_MATCHTYPE_V3"]) {
                guard FileUse.isPath(input, isOutput: isOutput) || options.keys.contains(where: { $0.contains("path") || $0.contains("folder") }) else { return nil }
                self = .path(isRead: !isOutput)
            } else if types.isSubset(of: FileUse.numberTypes) {
                return nil
            } else {
                self = .choice(offered: [])
            }
        }
    }

    /// Of an input that the class does not declare.
    init?(ofUndeclared input: String) {
        guard FileUse.isPath(input.utf8.split(separator: UInt8(ascii: ".")).last.map { String(Substring($0)) } ?? input, isOutput: true) else { return nil }
        self = .path(isRead: true)
    }

    /// The stricter of two, of classes with one name.
    func merged(with other: FileUse?) -> FileUse {
        switch (self, other) {
        case (.choice(let offered), .choice(let others)?): .choice(offered: offered.union(others))
        case (_, nil), (.file, _): self
        case (_, .file?): .file
        case (.path, _), (_, .choice?): self
        case (_, let path?): path
        }
    }

    private static let words = ["path", "folder", "directory", "filename"]
    private static let lastWords = ["file", "files", "dir", "dirs", "directories", "url", "uri"]

    /// Whether the name of a text input says that it is a path.
    private static func isPath(_ input: String, isOutput: Bool) -> Bool {
        let name = input.utf8.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }
        func ends(with word: String) -> Bool { name.reversed().starts(with: word.utf8.reversed()) }
        return words.contains { name.firstRange(of: $0.utf8) != nil } || lastWords.contains(where: ends) || name.starts(with: "file_".utf8)
            || name.starts(with: "dir_".utf8) || isOutput && ends(with: "prefix")
    }
}

/// What workflows may do with files.
package struct FileRules: Sendable, Equatable {
    /// Folders outside of ComfyUI's own whose files workflows may name, without a slash at the end.
    package var folders: [String] = []
    /// Whether jobs may read the outputs of others by their names (`x.png [output]`). By their ids they may always: those nobody guesses.
    package var isolatesOutputs = false

    package init(folders: [String] = [], isolatesOutputs: Bool = false) {
        self.folders = folders
        self.isolatesOutputs = isolatesOutputs
    }

    /// They name what other jobs have written, without saying so; the last only puts it out again.
    private static let outputs: Set<String> = ["LoadTrainingDataset.folder_name", "Preview3D.model_file"]

    enum Breach: Sendable {
        case unconfined, otherOutput
    }

    func breach(of use: FileUse, by value: JSON, _ input: String, of classType: String) -> Breach? {
        if isolatesOutputs, value != "", Self.outputs.contains("\(classType).\(input)") { return .otherOutput }
        return breach(of: use, by: value)
    }

    /// Looks at every text in the value: what names files may be a list or an object of names.
    private func breach(of use: FileUse, by value: JSON) -> Breach? {
        switch value {
        case .null, .bool, .number: nil
        case .string(let text): breach(of: use, by: text)
        case .array(let elements): elements.lazy.compactMap { breach(of: use, by: $0.unwrapped) }.first
        case .object(let members): members.values.lazy.compactMap { breach(of: use, by: $0.unwrapped) }.first
        }
    }

    private func breach(of use: FileUse, by text: String) -> Breach? {
        if case .choice(let offered) = use, offered.contains(Name(text)) { return nil }
        if text.leavesItsFolder { return folders.contains(where: text.isBelow) ? nil : .unconfined }
        guard isolatesOutputs else { return nil }
        switch use {
        case .file, .choice: return text.readsOutputs ? .otherOutput : nil
        // Relative to ComfyUI's own folder, as many node packs have it.
        case .path(isRead: true): return text.readsOutputs || text.beginsInOutputs ? .otherOutput : nil
        case .path(isRead: false): return nil
        }
    }
}

extension JSON {
    /// The value that a node gets: ComfyUI takes it out of `{"__value__": …}`, in which lists that are no links must stand.
    var unwrapped: JSON {
        var value = self
        while let inner = value["__value__"] { value = inner }
        return value
    }
}

extension String {
    /// Whether it is a path that leads elsewhere than below the folder it belongs to, on any system ComfyUI runs on, and also after what loaders
    /// commonly do to paths: take off blanks and quotes, put in the home folder, take a `file:` URL for a path.
    package var leavesItsFolder: Bool {
        func isSeparator(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "/") || byte == UInt8(ascii: "\\") }
        func isBlank(_ byte: UInt8) -> Bool { byte <= 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") }
        func isLetter(_ byte: UInt8) -> Bool { UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20 }
        if utf8.contains(0) { return true }
        let path = utf8.drop(while: isBlank)
        let start = path.prefix(5).map { $0 | 0x20 }
        guard let first = path.first else { return false }
        if isSeparator(first) || start.elementsEqual("file:".utf8) { return true }
        // `C:`, but no URL, and no picture's proportions.
        if isLetter(first), path.dropFirst().first == UInt8(ascii: ":") { return true }
        if first == UInt8(ascii: "~"), path.contains(where: isSeparator) { return true }
        // Windows drops dots and blanks at the end of a name.
        return path.lazy.split(whereSeparator: isSeparator).contains { part in
            part.starts(with: "..".utf8) && part.allSatisfy { $0 == UInt8(ascii: ".") || isBlank($0) }
        }
    }

    /// Whether it names that folder or something in it, without detours.
    fileprivate func isBelow(_ folder: String) -> Bool {
        guard utf8.starts(with: folder.utf8), !utf8.contains(0) else { return false }
        let rest = utf8.dropFirst(folder.utf8.count)
        return (rest.first.map { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "\\") } ?? true) && !(String("x" + Substring(rest))).leavesItsFolder
    }

    /// Whether ComfyUI takes it for a file of its output or temp folder; the blank before the bracket is not asked for.
    fileprivate var readsOutputs: Bool {
        let end = utf8.reversed().drop { $0 <= 0x20 }.prefix(8)
        return end.elementsEqual("[output]".utf8.reversed()) || end.prefix(6).elementsEqual("[temp]".utf8.reversed())
    }

    fileprivate var beginsInOutputs: Bool {
        let first = utf8.lazy.split { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "\\") }.first { !$0.elementsEqual(".".utf8) }
        return first.map { $0.elementsEqual("output".utf8) || $0.elementsEqual("temp".utf8) } ?? false
    }
}
