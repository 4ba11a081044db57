// Recipes and cards as people like to read them.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/import/draft.h"

namespace tomoserve::models::importer {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

constexpr std::size_t kLine = 100;

TextFormat::Printer Printer() {
  TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.SetUseShortRepeatedPrimitives(true);
  printer.SetUseUtf8StringEscaping(true);
  return printer;
}

std::string OnOneLine(const Message& message) {
  std::string text;
  Printer().PrintToString(message, &text);
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

void Print(const Message& message, int indent, std::string* out);

// `name { ... }`, on one line where it fits.
void PrintMessage(const std::string& name, const Message& message, int indent, std::string* out) {
  const std::string margin(static_cast<std::size_t>(indent), ' ');
  const std::string inside = OnOneLine(message);
  const std::string line =
      inside.empty() ? absl::StrCat(margin, name, " {}") : absl::StrCat(margin, name, " { ", inside, " }");
  if (line.size() <= kLine) {
    absl::StrAppend(out, line, "\n");
    return;
  }
  absl::StrAppend(out, margin, name, " {\n");
  Print(message, indent + 2, out);
  absl::StrAppend(out, margin, "}\n");
}

void PrintField(const Message& message, const FieldDescriptor* field, int indent, std::string* out) {
  const Reflection* reflection = message.GetReflection();
  const std::string margin(static_cast<std::size_t>(indent), ' ');
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    if (!field->is_repeated()) {
      PrintMessage(field->name(), reflection->GetMessage(message, field), indent, out);
      return;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      PrintMessage(field->name(), reflection->GetRepeatedMessage(message, field, i), indent, out);
    }
    return;
  }
  // Numbers of a list stand in brackets; texts and enums of a list one by one.
  const TextFormat::Printer printer = Printer();
  if (field->is_repeated() && field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) {
    std::string items;
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      std::string item;
      printer.PrintFieldValueToString(message, field, i, &item);
      absl::StrAppend(&items, items.empty() ? "" : ", ", item);
    }
    absl::StrAppend(out, margin, field->name(), ": [", items, "]\n");
    return;
  }
  for (int i = 0; i < (field->is_repeated() ? reflection->FieldSize(message, field) : 1); ++i) {
    std::string value;
    printer.PrintFieldValueToString(message, field, field->is_repeated() ? i : -1, &value);
    absl::StrAppend(out, margin, field->name(), ": ", value, "\n");
  }
}

void Print(const Message& message, int indent, std::string* out) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) PrintField(message, field, indent, out);
}

// What stands above a part of the recipe.
const std::map<std::string, std::string>& Comments() {
  static const std::map<std::string, std::string>& comments = *new std::map<std::string, std::string>{
      {"inputs", "Which series: narrow this to what the model was trained on."},
      {"preparation", "From the stored volume to the network's input."},
      {"windows", "How the prepared volume is cut and put together again."},
      {"decode", "From the network's output to labels, in this order."},
      {"labels", "Codes are SNOMED CT where the name is well known, else \"Tissue\": refine them."},
      {"findings", "How labels become findings."},
      {"flags", "INFO measures only: raise what a radiologist should see first."},
      {"coverage", "When the scanned extent answers the question: set a rule, see docs/MODELS.md."},
  };
  return comments;
}

void AddLine(const std::string& name, const std::string& value, std::string* out) {
  if (!value.empty()) absl::StrAppend(out, "- ", name, ": ", value, "\n");
}

}  // namespace

void AddCard(const About& about, const std::vector<std::string>& notes, v1::Recipe* recipe) {
  const auto or_else = [](const std::string& text, const char* otherwise) {
    return text.empty() ? std::string(otherwise) : OneLine(text, 1000);
  };
  recipe->set_title(or_else(OneLine(about.name, 100), "Imported model"));
  v1::ModelCard* card = recipe->mutable_card();
  card->set_intended_use(or_else(about.intended_use, "Not stated by its author: for research only."));
  card->set_regulatory_status(v1::REGULATORY_STATUS_RESEARCH);
  card->set_author(or_else(!about.authors.empty() ? about.authors : about.copyright, "Not stated"));
  card->set_license(or_else(about.license, "Not stated"));
  card->set_source(absl::StrCat(about.kind, " ", or_else(about.name, "without a name"),
                                about.version.empty() ? "" : absl::StrCat(" ", OneLine(about.version, 40))));
  for (const std::string& note : notes) card->add_limitations(OneLine(note, 1000));
}

std::string RecipeText(const v1::Recipe& recipe, const std::vector<std::string>& heading) {
  std::string text;
  for (const std::string& line : heading) absl::StrAppend(&text, "# ", OneLine(line, 110), "\n");
  std::vector<const FieldDescriptor*> fields;
  recipe.GetReflection()->ListFields(recipe, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) absl::StrAppend(&text, "\n");
    if (const auto comment = Comments().find(field->name()); comment != Comments().end()) {
      absl::StrAppend(&text, "# ", comment->second, "\n");
    }
    PrintField(recipe, field, 0, &text);
  }
  return text;
}

std::string CardText(const std::string& name, const About& about, const std::vector<std::string>& notes,
                     const std::vector<std::string>& files) {
  std::string text = absl::StrCat(
      "# ", name,
      "\n\n**RESEARCH.** Not a medical device. Made by `tomoctl model import`; source: ", about.kind,
      ".\n\n");
  if (!about.description.empty()) absl::StrAppend(&text, OneLine(about.description, 4000), "\n\n");
  AddLine("Name", OneLine(about.name, 200), &text);
  AddLine("Version", OneLine(about.version, 40), &text);
  AddLine("Intended use", OneLine(about.intended_use, 1000), &text);
  AddLine("Authors", OneLine(about.authors, 1000), &text);
  AddLine("Copyright", OneLine(about.copyright, 1000), &text);
  AddLine("Licence", OneLine(about.license, 400), &text);
  AddLine("Training data", OneLine(about.source, 1000), &text);
  for (const std::string& file : files) AddLine("Network", file, &text);
  if (!notes.empty()) {
    absl::StrAppend(&text, "\n## To check\n\n");
    for (const std::string& note : notes) absl::StrAppend(&text, "- ", OneLine(note, 1000), "\n");
  }
  if (!about.references.empty()) {
    absl::StrAppend(&text, "\n## References\n\n");
    for (const std::string& reference : about.references) {
      absl::StrAppend(&text, "- ", OneLine(reference, 1000), "\n");
    }
  }
  return text;
}

}  // namespace tomoserve::models::importer
