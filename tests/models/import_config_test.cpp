// References and expressions of a MONAI configuration.
#include <gmock/gmock.h>

#include "models/import/config.h"
#include "models/import_fixtures.h"

namespace tomoserve::models::importer {
namespace {

using ::testing::HasSubstr;

Json ValueAt(const char* config, const char* id) {
  Config parsed(Json::parse(config));
  const auto located = parsed.At(id);
  if (!located.ok()) return base::ReasonOf(located.status()) + " " + base::ValueOf(located.status());
  const auto whole = parsed.Whole(*located);
  if (!whole.ok()) return base::ReasonOf(whole.status()) + " " + base::ValueOf(whole.status());
  return *whole;
}

TEST(ImportConfigTest, ReferencesOfEveryForm) {
  EXPECT_EQ(ValueAt(R"js({"a": 1, "b": "@a"})js", "b"), 1);
  EXPECT_EQ(ValueAt(R"js({"a": {"c": [5, 6]}, "b": "@a#c#1"})js", "b"), 6);
  EXPECT_EQ(ValueAt(R"js({"a": {"c": [5, 6]}, "b": "@a::c::0"})js", "b"), 5);
  EXPECT_EQ(ValueAt(R"js({"a": {"c": 7, "b": "@#c"}})js", "a::b"), 7) << "a sibling";
  EXPECT_EQ(ValueAt(R"js({"c": 8, "a": {"b": "@::::c"}})js", "a#b"), 8) << "one level up";
  EXPECT_EQ(ValueAt(R"js({"a": [1, "@b"], "b": {"c": "@d"}, "d": 2})js", "a"),
            Json::parse(R"js([1, {"c": 2}])js"));
  EXPECT_EQ(ValueAt(R"js({"a": "%b", "b": [1, 2]})js", "a"), Json::parse("[1, 2]")) << "a macro";
}

TEST(ImportConfigTest, ReferencesThatLeadNowhereOrInACircle) {
  EXPECT_EQ(ValueAt(R"js({"b": "@a"})js", "b"), "IMPORT_INVALID b");
  EXPECT_EQ(ValueAt(R"js({"b": "@::::::a"})js", "b"), "IMPORT_INVALID b");
  EXPECT_EQ(ValueAt(R"js({"b": "%other.json::a"})js", "b"), "IMPORT_UNSUPPORTED b");
  EXPECT_THAT(ValueAt(R"js({"a": "@b", "b": "@a"})js", "b").get<std::string>(), HasSubstr("IMPORT_INVALID"));
  EXPECT_THAT(ValueAt(R"js({"a": "@a"})js", "a").get<std::string>(), HasSubstr("IMPORT_INVALID"));
  EXPECT_THAT(ValueAt(R"js({"a": {"b": "@a"}})js", "a").get<std::string>(), HasSubstr("IMPORT_INVALID"));
  EXPECT_THAT(ValueAt(R"js({"a": "$not @a"})js", "a").get<std::string>(), HasSubstr("IMPORT_INVALID"));
  EXPECT_THAT(ValueAt(R"js({"a": "$[@a, @a]"})js", "a").get<std::string>(), HasSubstr("IMPORT_INVALID"));
}

TEST(ImportConfigTest, GrowthIsBounded) {
  std::string lists = R"js({"v0": [1, 1])js";
  std::string sums = R"js({"v0": "xx")js";
  std::string nested = R"js({"v0": [1])js";
  for (int i = 1; i < 40; ++i) {
    const std::string before = "@v" + std::to_string(i - 1);
    const std::string name = ", \"v" + std::to_string(i) + "\": ";
    lists += name + "\"$" + before + " + " + before + "\"";
    sums += name + "\"$" + before + " + " + before + "\"";
    nested += name + "[\"" + before + "\", \"" + before + "\"]";
  }
  for (const std::string& config : {lists, sums, nested}) {
    EXPECT_THAT(ValueAt((config + "}").c_str(), "v39").get<std::string>(), HasSubstr("IMPORT_INVALID"));
  }
}

TEST(ImportConfigTest, LongTextsAreRefusedByTheirPlace) {
  Json config;
  config["text"] = std::string(1U << 20, 'x');
  config["a"] = Json(std::vector<std::string>(3000, "@text"));
  EXPECT_EQ(ValueAt(config.dump().c_str(), "a"), "IMPORT_INVALID text");
  config["text"] = std::string(4096, 'x');
  config["a"] = {"@text", "@text"};
  EXPECT_EQ(ValueAt(config.dump().c_str(), "a::1"), config["text"]);
  config["text"] = std::string(4097, 'x');
  EXPECT_EQ(ValueAt(config.dump().c_str(), "a"), "IMPORT_INVALID text");
}

TEST(ImportConfigTest, TextsKeysAndPlacesCountAgainstGrowth) {
  const std::string text(4000, 'x');
  const std::string key(250, 'k');
  const auto refused = [](const Json& target, const char* reference) {
    Json config;
    config["t"] = target;
    config["a"] = Json(std::vector<std::string>(6000, reference));
    const Json value = ValueAt(config.dump().c_str(), "a");
    return value.is_string() && value.get<std::string>().substr(0, 14) == "IMPORT_INVALID";
  };
  EXPECT_TRUE(refused(text, "@t"));
  EXPECT_TRUE(refused("$'" + text + "'", "@t"));
  EXPECT_TRUE(refused("$'" + text + "'", "$@t"));
  Json nested;
  nested[key + "1"][key + "2"][key + "3"] = 1;
  nested[key + "1"][key + "2"][key + "4"] = 1;
  EXPECT_TRUE(refused(nested, "@t"));
  Json many = Json::object();
  for (int i = 0; i < 9000; ++i) many["k" + std::to_string(i)] = 0;
  EXPECT_TRUE(refused(many, "@t::k8999")) << "looking through an object is work";
  EXPECT_FALSE(refused(1, "@t"));
}

TEST(ImportConfigTest, ExpressionsThatBundlesUse) {
  EXPECT_EQ(ValueAt(R"js({"x": false, "a": "$not @x"})js", "a"), true);
  EXPECT_EQ(ValueAt(R"js({"x": false, "a": "$(not @x)"})js", "a"), true);
  EXPECT_EQ(ValueAt(R"js({"r": ".", "a": "$@r + '/eval'"})js", "a"), "./eval");
  EXPECT_EQ(ValueAt(R"js({"d": {"h": true}, "a": "$[1.5, 1.5] if @d#h else [3.0, 3.0]"})js", "a"),
            Json::parse("[1.5, 1.5]"));
  EXPECT_EQ(ValueAt(R"js({"d": {"h": false}, "a": "$'x' if @d::h else 'y'"})js", "a"), "y");
  EXPECT_EQ(ValueAt(R"js({"a": "$(1, -2, 3e1)"})js", "a"), Json::parse("[1, -2, 30.0]"));
  EXPECT_EQ(ValueAt(R"js({"a": "${'k': None}"})js", "a"), Json::parse(R"js({"k": null})js"));
  EXPECT_EQ(ValueAt(R"js({"b": [1], "a": "$@b"})js", "a"), Json::parse("[1]"));
}

TEST(ImportConfigTest, WhatIsNotComputedStaysAsItStands) {
  for (const char* text : {"$torch.device('cpu')", "$list(sorted(glob.glob(@b + '/*')))", "$lambda x: x",
                           "$[i for i in @b]", "$import os", "$1 if", "$@b * 2", "$'\\n'", "$((((((", "$"}) {
    const Json config = {{"b", "x"}, {"a", text}};
    EXPECT_EQ(ValueAt(config.dump().c_str(), "a"), text);
  }
}

TEST(ImportConfigTest, DeepExpressionsAreNotRead) {
  for (const std::string& text :
       {std::string(2000, '('), "$" + std::string(2000, '-') + "1", "1" + std::string(1000, '+'),
        "x" + std::string(1000, '.'), std::string(9000, '1'), std::string("not ") + std::string(3000, ' ')}) {
    EXPECT_FALSE(ParseExpression(text).ok());
  }
}

TEST(ImportConfigTest, CallsGiveTheirArgumentsByNameAndPosition) {
  Config config(
      Json::parse(R"js({"roi": [1, 2], "op": "$@d.set(@roi, mode='x', device=torch.device('cpu'))"})js"));
  const auto call = config.AsCall(*config.At("op"));
  ASSERT_TRUE(call.ok() && call->has_value()) << call.status();
  EXPECT_EQ((*call)->target, "@d.set");
  ASSERT_EQ((*call)->arguments.size(), 3U);
  EXPECT_EQ((*call)->arguments[0].first, "");
  EXPECT_EQ(*(*call)->arguments[0].second.value, Json::parse("[1, 2]"));
  EXPECT_EQ((*call)->arguments[1].first, "mode");
  EXPECT_EQ(*(*call)->arguments[1].second.value, "x");
}

}  // namespace
}  // namespace tomoserve::models::importer
