// inference.json and metadata.json -> a recipe.
#include "models/import/monai.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "models/import/errors.h"
#include "models/names.h"

namespace tomoserve::models::importer {
namespace {

constexpr std::uint32_t kMaxChannels = 4096;

// A text, or several ones as one.
std::string TextOf(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return "";
  const Json& value = object[key];
  if (value.is_string()) return value.get<std::string>();
  std::string text;
  if (value.is_array()) {
    for (const Json& item : value) {
      if (item.is_string()) absl::StrAppend(&text, text.empty() ? "" : ", ", item.get<std::string>());
    }
  }
  return text;
}

About AboutOf(const Json& metadata) {
  About about;
  about.kind = "MONAI bundle";
  about.name = TextOf(metadata, "name");
  about.version = TextOf(metadata, "version");
  about.description = TextOf(metadata, "description");
  if (about.description.empty()) about.description = TextOf(metadata, "task");
  about.intended_use = TextOf(metadata, "intended_use");
  about.authors = TextOf(metadata, "authors");
  about.copyright = TextOf(metadata, "copyright");
  for (const char* key : {"license", "licence"}) {
    if (about.license.empty()) about.license = TextOf(metadata, key);
  }
  about.source = TextOf(metadata, "data_source");
  if (metadata.contains("references") && metadata["references"].is_array()) {
    for (const Json& reference : metadata["references"]) {
      if (reference.is_string()) about.references.push_back(reference.get<std::string>());
    }
  }
  return about;
}

// A member of network_data_format: "inputs" or "outputs", the first of them; null where there is none.
Json FormatOf(const Json& metadata, const char* side) {
  if (!metadata.contains("network_data_format")) return nullptr;
  const Json& format = metadata["network_data_format"];
  if (!format.is_object() || !format.contains(side) || !format[side].is_object() || format[side].empty()) {
    return nullptr;
  }
  return format[side].front();
}

// channel_def: {"0": "background", "1": "spleen"} by number.
absl::StatusOr<std::vector<std::string>> ChannelNames(const Json& format, const std::string& place) {
  std::vector<std::string> names;
  if (!format.is_object() || !format.contains("channel_def")) return names;
  for (const auto& [key, name] : format["channel_def"].items()) {
    const bool number =
        !key.empty() && key.size() < 5 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!number || !name.is_string() || std::stoul(key) >= kMaxChannels) {
      return Malformed(absl::StrCat(place, ".channel_def"),
                       absl::StrCat(Short(name), " is no name of a channel"));
    }
    names.resize(std::max(names.size(), std::stoul(key) + 1));
    names[std::stoul(key)] = name.get<std::string>();
  }
  return names;
}

absl::StatusOr<std::optional<std::uint32_t>> CountAt(const std::optional<Located>& value) {
  if (!value) return std::nullopt;
  if (!value->value->is_number_integer() || *value->value < 1 || *value->value > kMaxChannels) {
    return NotSupported(value->place.Text(), absl::StrCat(Short(*value->value), " is no number of channels"));
  }
  return value->value->get<std::uint32_t>();
}

absl::StatusOr<std::optional<std::uint32_t>> CountIn(const Json& format, const std::string& place) {
  if (!format.is_object() || !format.contains("num_channels")) return std::nullopt;
  return CountAt(Located{&format["num_channels"], Place().Child(place).Child("num_channels")});
}

// Channels: the network's definition counts before the metadata, which describe and do not run.
absl::Status AddChannels(Bundle* bundle) {
  const Json inputs = FormatOf(bundle->metadata, "inputs");
  const Json outputs = FormatOf(bundle->metadata, "outputs");
  TS_ASSIGN_OR_RETURN(const std::optional<Located> in, bundle->config.Find("network_def::in_channels"));
  TS_ASSIGN_OR_RETURN(const std::optional<Located> out, bundle->config.Find("network_def::out_channels"));
  TS_ASSIGN_OR_RETURN(const auto in_network, CountAt(in));
  TS_ASSIGN_OR_RETURN(const auto out_network, CountAt(out));
  TS_ASSIGN_OR_RETURN(const auto in_metadata, CountIn(inputs, "metadata.inputs"));
  TS_ASSIGN_OR_RETURN(const auto out_metadata, CountIn(outputs, "metadata.outputs"));
  TS_ASSIGN_OR_RETURN(bundle->output_names, ChannelNames(outputs, "metadata.outputs"));
  if (bundle->output_names.empty() && bundle->metadata.contains("labels") &&
      bundle->metadata["labels"].is_array()) {
    for (const Json& label : bundle->metadata["labels"]) {
      bundle->output_names.push_back(label.is_string() ? label.get<std::string>() : "");
    }
  }
  bundle->input_channels = in_network.value_or(in_metadata.value_or(1));
  if (out_network || out_metadata) {
    bundle->output_channels = out_network ? *out_network : *out_metadata;
  } else if (!bundle->output_names.empty() && bundle->output_names.size() <= kMaxChannels) {
    bundle->output_channels = static_cast<std::uint32_t>(bundle->output_names.size());
  } else {
    return NotSupported("metadata.network_data_format.outputs",
                        "neither it nor network_def.out_channels says how many channels come out");
  }
  if (bundle->output_names.size() > bundle->output_channels && bundle->output_channels > 1) {
    bundle->draft->notes.push_back(absl::StrCat("The metadata name ", bundle->output_names.size(),
                                                " channels, the network has ", bundle->output_channels,
                                                ": the first names are used; check them."));
  }
  return absl::OkStatus();
}

// "T1c" -> "t1c", for the name of an input.
std::string Identifier(const std::string& text) {
  std::string name = FolderName(OneLine(text, 32));
  for (char& c : name) {
    if (c == '.' || c == '-') c = '_';
  }
  name.resize(std::min<std::size_t>(name.size(), 32));
  return name;
}

// What each channel is called: by its image where that tells a kind of series, or where the metadata do not.
// Both must be in the same order.
absl::StatusOr<std::vector<std::string>> NamesOfChannels(const std::vector<std::string>& channels,
                                                         const Bundle& bundle) {
  std::vector<std::string> names = channels;
  names.resize(bundle.input_channels);
  if (bundle.image_keys.size() < 2) return names;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string& image = bundle.image_keys[i];
    const Sequence of_image = SequenceOf(image);
    const Sequence of_channel = SequenceOf(names[i]);
    if (of_channel == Sequence::kUnknown) {
      names[i] = image;
    } else if (of_image != Sequence::kUnknown && of_image != of_channel) {
      return Malformed(
          "metadata.inputs.channel_def",
          absl::StrCat("channel ", i, " is ", OneLine(names[i], 40), ", the image is ", OneLine(image, 40)));
    }
  }
  return names;
}

absl::Status AddInputs(Bundle* bundle) {
  v1::Recipe& recipe = bundle->draft->recipe;
  const Json format = FormatOf(bundle->metadata, "inputs");
  const std::string word = TextOf(format, "modality");
  std::vector<std::string> stated = ModalitiesOf(word);
  const std::vector<std::string>& replaced = bundle->draft->modalities;
  const std::vector<std::string>& modalities = replaced.empty() ? stated : replaced;
  if (!word.empty() && modalities.empty()) {
    return NotSupported("metadata.network_data_format.inputs.modality",
                        absl::StrCat(OneLine(word, 40), " is not known"));
  }
  if (!word.empty() && stated.empty()) stated = {OneLine(word, 40)};
  if (bundle->image_keys.size() > 1 && bundle->image_keys.size() != bundle->input_channels) {
    return NotSupported(bundle->preprocessing.Text(), absl::StrCat(bundle->image_keys.size(), " images for ",
                                                                   bundle->input_channels, " channels"));
  }
  TS_ASSIGN_OR_RETURN(const std::vector<std::string> channels, ChannelNames(format, "metadata.inputs"));
  TS_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesOfChannels(channels, *bundle));
  std::set<std::string> used;
  for (std::uint32_t index = 0; index < bundle->input_channels; ++index) {
    v1::Input* input = recipe.add_inputs();
    std::string name;
    if (bundle->image_keys.size() > 1) {
      name = Identifier(bundle->image_keys[index]);
    } else if (bundle->input_channels > 1 && index < channels.size()) {
      name = Identifier(channels[index]);
    } else if (bundle->input_channels == 1 && modalities.size() == 1) {
      name = Identifier(modalities[0]);
    }
    if (name.empty()) name = bundle->input_channels > 1 ? absl::StrCat("image_", index) : "image";
    if (!used.insert(name).second)
      return NotSupported("metadata.network_data_format.inputs.channel_def",
                          absl::StrCat(name, " stands twice"));
    input->set_name(name);
    AddModalities(stated, input, bundle->draft);
    input->set_when_missing(v1::WHEN_MISSING_WARN);
  }
  if (recipe.network().spatial_dims() == 2) {
    const bool each = recipe.inputs_size() == 1;
    if (each) recipe.mutable_inputs(0)->set_every_time_point(true);
    bundle->draft->notes.push_back(
        each ? "Of a series with several time points each is analysed (inputs.every_time_point)."
             : "Of series with several time points one is analysed, not each.");
  }
  TellApart(names, bundle->draft);
  return absl::OkStatus();
}

// The evaluator runs the rest; what it is given beside the known parts would change results.
absl::Status CheckEvaluator(const Located& evaluator, Config* config) {
  TS_ASSIGN_OR_RETURN(Arguments arguments, Arguments::Of(config, evaluator));
  const std::string& target = arguments.target();
  if (target != "SupervisedEvaluator" && target != "scripts.evaluator.DetectionEvaluator") {
    return NotSupported(evaluator.place.Text(),
                        absl::StrCat("the evaluator ", OneLine(target, 80), " is not known"));
  }
  TS_RETURN_IF_ERROR(arguments.Only("mode", "eval"));
  arguments.Accept({"device", "val_data_loader", "network", "inferer", "postprocessing", "val_handlers",
                    "amp", "key_val_metric", "additional_metrics", "epoch_length", "decollate",
                    "non_blocking", "metric_cmp_fn", "amp_kwargs", "to_kwargs", "compile", "compile_kwargs"});
  return arguments.Done();
}

// What `owner` is given as `name`, or else the part of that name.
absl::StatusOr<std::optional<Located>> PartOf(const char* owner, const char* argument, const char* name,
                                              Config* config) {
  TS_ASSIGN_OR_RETURN(const std::optional<Located> holder, config->Find(owner));
  if (holder && holder->value->is_object() && holder->value->contains(argument)) {
    TS_ASSIGN_OR_RETURN(Located part, config->Child(*holder, argument));
    return part;
  }
  return config->Find(name);
}

// The lung nodule bundle has one branch for LUNA16 as it was published and one for a resampled copy of it.
void TakeRawBranch(Json* inference, Draft* draft) {
  constexpr char kSwitch[] = "whether_raw_luna16";
  if (!inference->is_object() || !inference->contains(kSwitch) || (*inference)[kSwitch] != false) return;
  (*inference)[kSwitch] = true;
  draft->remarks.push_back(
      "whether_raw_luna16 is taken as true: DICOM series are raw, never resampled before.");
}

absl::Status Add(Bundle* bundle) {
  Config* config = &bundle->config;
  for (const auto& [key, value] : config->root().items()) {
    if (key.find('#') != std::string::npos || key.find("::") != std::string::npos ||
        key.substr(0, 1) == "+") {
      return NotSupported(OneLine(key, 80), "a part that overrides another file");
    }
  }
  TS_ASSIGN_OR_RETURN(const std::optional<Located> evaluator, config->Find("evaluator"));
  if (evaluator) TS_RETURN_IF_ERROR(CheckEvaluator(*evaluator, config));
  TS_ASSIGN_OR_RETURN(const auto preprocessing, PartOf("dataset", "transform", "preprocessing", config));
  TS_ASSIGN_OR_RETURN(const auto inferer, PartOf("evaluator", "inferer", "inferer", config));
  TS_ASSIGN_OR_RETURN(const auto postprocessing,
                      PartOf("evaluator", "postprocessing", "postprocessing", config));
  if (!preprocessing) return NotSupported("preprocessing", "is missing");
  if (!inferer) return NotSupported("inferer", "is missing");

  TS_ASSIGN_OR_RETURN(const std::optional<Config::Call> call, config->AsCall(*inferer));
  const bool detector = call && call->target == "scripts.detection_inferer.RetinaNetInferer";
  if (!detector || !FormatOf(bundle->metadata, "outputs").is_null()) TS_RETURN_IF_ERROR(AddChannels(bundle));
  TS_RETURN_IF_ERROR(AddPreparation(*preprocessing, bundle));
  if (detector) {
    TS_RETURN_IF_ERROR(AddDetector(*inferer, postprocessing, bundle));
  } else {
    TS_RETURN_IF_ERROR(AddWindows(*inferer, bundle));
    TS_RETURN_IF_ERROR(AddDecode(postprocessing, bundle));
  }
  v1::Network* network = bundle->draft->recipe.mutable_network();
  network->set_input_channels(bundle->input_channels);
  network->set_output_channels(bundle->output_channels);
  return AddInputs(bundle);
}

}  // namespace

absl::StatusOr<Draft> DraftOfMonai(const Json& inference, const Json& metadata,
                                   const ImportOptions& options) {
  if (!inference.is_object()) return Malformed("inference.json", "is no object");
  if (!metadata.is_object()) return Malformed("metadata.json", "is no object");
  Draft draft;
  TS_ASSIGN_OR_RETURN(draft.modalities, CheckModalities(options.modalities));
  draft.about = AboutOf(metadata);
  draft.suggested_name = FolderName(draft.about.name);
  Json config = inference;
  TakeRawBranch(&config, &draft);
  Bundle bundle{Config(std::move(config)), metadata, &draft, "", 1, 1, {}, {}, {}};
  bundle.monai_version =
      options.monai_version.empty() ? TextOf(metadata, "monai_version") : options.monai_version;
  if (!bundle.monai_version.empty() && (bundle.monai_version[0] < '0' || bundle.monai_version[0] > '9')) {
    return Malformed(options.monai_version.empty() ? "metadata.monai_version" : "--monai-version",
                     "is no version such as 1.4.0");
  }
  TS_RETURN_IF_ERROR(Add(&bundle));
  return draft;
}

}  // namespace tomoserve::models::importer
